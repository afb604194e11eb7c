"""Randomness by address: every draw is a function of (seed, stream name, index).

No generator is global and none is carried along, so episode ``i``, batch ``i`` or
augmentation ``i`` can be computed again at any time, in any order, by any process.
"""

import hashlib

import numpy as np


def derive(seed: int, stream: str, index: int = 0) -> int:
    """A 63-bit seed for one draw; different addresses give independent seeds."""
    address = f"{seed}/{stream}/{index}".encode()
    return int.from_bytes(hashlib.blake2b(address, digest_size=8).digest(), "little") >> 1


def generator(seed: int, stream: str, index: int = 0) -> np.random.Generator:
    """A fresh numpy generator for the draw at this address."""
    return np.random.Generator(np.random.PCG64(derive(seed, stream, index)))
