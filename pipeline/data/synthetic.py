"""Generated images: the data of the demo, made on the spot and without a download.

A class is a style: an outline, a texture and two colours. An image shows its class in some
pose and light, on a patterned ground, behind one stranger and before another. Ground and
strangers come from the same family as the classes, so only the style tells a class apart.

Positions are complex numbers: a pose is then one product, and an outline one polynomial.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.datasets import SPLIT_CLASSES
from pipeline.data.packed import Origin
from pipeline.errors import UserError
from pipeline.streams import generator

_BLOCK = 16  # images painted at once: few enough for the processor's cache
_ORDERS = 5  # of the Fourier series of an outline: 2 to 6; order 1 would only move the figure

_Real = NDArray[np.floating]
_Complex = NDArray[np.complexfloating]


@dataclass(frozen=True)
class Synthetic:
    """A source of generated classes, each a pure function of (seed, image_size, name).

    Raises
    ------
    UserError
        If ``image_size`` is below 16 pixels or ``images_per_class`` below 1.
    """

    image_size: int
    images_per_class: int
    seed: int = 0
    one_reader = False

    def __post_init__(self) -> None:
        for key, least in {"image_size": 16, "images_per_class": 1}.items():
            value = getattr(self, key)
            if value < least:
                raise UserError(
                    f"generated images: {key} is {value}, must be {least} or more; "
                    f"correct {key} in the configuration."
                )

    @property
    def classes(self) -> dict[str, list[str]]:
        """The names of the classes of each split: 64 base, 16 validation, 20 novel."""
        numbers = iter(range(sum(SPLIT_CLASSES.values())))
        return {
            split: [f"shape_{next(numbers):03d}" for _ in range(count)]
            for split, count in SPLIT_CLASSES.items()
        }

    @property
    def origin(self) -> Origin:
        return Origin(form="generated", variant="reference")

    def images(self, name: str) -> NDArray[np.uint8]:
        """The images of one class, (images_per_class, image_size, image_size, 3).

        More images leave the earlier ones as they were, bit for bit: blocks are painted
        whole and then cut, so even the rounding does not depend on how many are asked for.
        Another size shows the same scenes, up to the noise.
        """
        style = _draw_styles(generator(self.seed, f"synthetic/{name}/style"), 1)
        starts = range(0, self.images_per_class, _BLOCK)
        images = np.empty((len(starts), _BLOCK, self.image_size, self.image_size, 3), np.uint8)
        for index, block in enumerate(images):
            rng = generator(self.seed, f"synthetic/{name}/images", index)
            planes = _paint(style, rng, self.image_size)
            for channel in range(3):  # several times faster than one transposed copy
                block[..., channel] = planes[:, channel]
        return images.reshape(-1, *images.shape[2:])[: self.images_per_class]


def source(settings: dict[str, Any], _raw: Path | None) -> Synthetic:
    """The source that a data set's settings describe; there is nothing to read."""
    return Synthetic(settings["image_size"], settings["images_per_class"], settings["seed"])


@dataclass(frozen=True)
class _Style:
    """What makes a figure recognisable; one row per figure."""

    outline: _Complex  # (figure, order): how the radius depends on the direction
    waves: _Complex  # (figure, 2): wave vectors of the texture, in radians per mean radius
    check: _Real  # (figure, 1): 0 for stripes, 1 for checks
    hues: _Real  # (figure, 2): the two colours, in turns of the colour wheel
    shades: _Real  # (figure, 2): and their brightness


def _draw_styles(rng: np.random.Generator, count: int) -> _Style:
    """Unrelated figures. There are few hues, so that many classes share one."""
    weights = _uniform(rng, 0, 1, count, _ORDERS) ** 3  # so that one or two orders stand out
    strengths = 0.45 * weights / weights.sum(axis=1, keepdims=True)
    return _Style(
        outline=strengths * _directions(rng, count, _ORDERS),
        waves=_uniform(rng, 2, 10, count, 2) * _directions(rng, count, 2),
        check=rng.integers(2, size=(count, 1)).astype(np.float32),
        hues=rng.integers(8, size=(count, 2)).astype(np.float32) / 8,
        shades=_uniform(rng, 0.25, 0.95, count, 2),
    )


def _vary(style: _Style, rng: np.random.Generator) -> _Style:
    """A block of individuals of one class, each bent, woven and tinted a little differently."""

    def normal(deviation: float, columns: int) -> _Real:
        return deviation * rng.standard_normal((_BLOCK, columns), dtype=np.float32)

    return _Style(
        outline=style.outline + normal(0.05, _ORDERS) + 1j * normal(0.05, _ORDERS),
        waves=style.waves * (1 + normal(0.12, 2) + 1j * normal(0.12, 2)),
        check=style.check + normal(0.2, 1),
        hues=style.hues + normal(0.06, 2) + normal(0.06, 1),
        shades=style.shades + normal(0.1, 2),
    )


def _paint(style: _Style, rng: np.random.Generator, image_size: int) -> NDArray[np.uint8]:
    """A block of images of one class, (image, 3, image_size, image_size)."""
    middles = (np.arange(image_size, dtype=np.float32) + 0.5) * (2 / image_size) - 1
    plane = (middles + 1j * middles[:, None]).reshape(1, -1)
    scene = _draw_scene(style, rng)

    # A pixel is a mixture of the scene's colours. Each figure takes its share of the light
    # and leaves the rest to what lies behind it; the ground, which is last, takes it all.
    light = _draw_light(rng, plane)
    shares = np.empty((_BLOCK, len(scene), 2, plane.size), np.float32)
    for layer, (figure, centre, turn) in enumerate(scene):
        position = (plane - centre) * (1 / turn)
        share = light
        if layer < len(scene) - 1:
            share = light * _cover(figure.outline, position, np.abs(turn) * image_size / 2)
        blend = _texture(figure, position, rng)
        shares[:, layer, 0] = share * blend
        shares[:, layer, 1] = share - shares[:, layer, 0]
        light -= share
    colours = np.stack([_colour(figure.hues, figure.shades) for figure, *_ in scene], axis=1)
    cast = _uniform(rng, 0.85, 1.15, _BLOCK, 1, 1, 3)
    # Not a matrix product: its rounding can depend on the number of threads.
    image = np.einsum("ifhp,ifhc->icp", shares, colours * cast)
    image += _uniform(rng, -0.08, 0.08, *image.shape)
    levels: NDArray[np.uint8] = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    return levels.reshape(_BLOCK, 3, image_size, image_size)


def _draw_scene(style: _Style, rng: np.random.Generator) -> list[tuple[_Style, _Complex, _Complex]]:
    """Style, centre and turn of each figure, from front to back; an image spans -1 to 1."""

    def strangers() -> _Style:
        return _draw_styles(rng, _BLOCK)

    return [
        (strangers(), *_draw_poses(rng, distance=(0.7, 1.1), radius=(0.2, 0.5))),
        (_vary(style, rng), *_draw_poses(rng, distance=(0.0, 0.3), radius=(0.45, 0.75))),
        (strangers(), *_draw_poses(rng, distance=(0.4, 1.2), radius=(0.3, 0.7))),
        (strangers(), *_draw_poses(rng, distance=(0.0, 1.0), radius=(6.0, 6.0))),
    ]


def _draw_poses(
    rng: np.random.Generator, distance: tuple[float, float], radius: tuple[float, float]
) -> tuple[_Complex, _Complex]:
    """Where figures lie, and what turns them and scales them to a mean radius; (figure, 1)."""
    centre = _uniform(rng, *distance, _BLOCK, 1) * _directions(rng, _BLOCK, 1)
    turn = _uniform(rng, *radius, _BLOCK, 1) * _directions(rng, _BLOCK, 1)
    return centre, turn


def _draw_light(rng: np.random.Generator, plane: _Complex) -> _Real:
    """Light that grows in some direction, (image, pixel)."""
    slope = _uniform(rng, 0, 0.4, _BLOCK, 1) * _directions(rng, _BLOCK, 1)
    return _uniform(rng, 0.7, 1.4, _BLOCK, 1) * (1 + (slope * plane).real)


def _cover(outline: _Complex, position: _Complex, radius: _Real) -> _Real:
    """How much of each pixel a figure covers, (figure, pixel).

    ``position`` (figure, pixel) is relative to the figure: its centre is 0, its mean radius 1.
    ``radius`` (figure, 1) is the mean radius in pixels: outlines are smooth over one pixel.
    """
    distance = np.maximum(np.abs(position), 1e-6)
    direction = position * (1 / distance)
    series = np.zeros_like(position)
    for coefficient in outline.T[::-1]:
        series *= direction
        series += coefficient[:, None]
    series *= direction**2
    return np.clip((1 + series.real - distance) * radius + 0.5, 0, 1)


def _texture(style: _Style, position: _Complex, rng: np.random.Generator) -> _Real:
    """The part of the first colour in each pixel of a figure, (figure, pixel)."""
    first, second = (
        np.sin((wave.conj()[:, None] * position).real + _uniform(rng, 0, 2 * np.pi, _BLOCK, 1))
        for wave in style.waves.T
    )
    blend: _Real = np.clip(0.5 + first * (1 + style.check * (second - 1)), 0, 1)
    return blend


def _colour(hue: _Real, shade: _Real) -> _Real:
    """Red, green and blue, (..., 3)."""
    thirds = np.arange(3, dtype=np.float32) / 3
    return shade[..., None] * (0.65 + 0.35 * np.cos(2 * np.pi * (hue[..., None] - thirds)))


def _uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> _Real:
    return low + (high - low) * rng.random(shape, dtype=np.float32)


def _directions(rng: np.random.Generator, *shape: int) -> _Complex:
    """Complex numbers of length 1."""
    directions: _Complex = np.exp(2j * np.pi * rng.random(shape, dtype=np.float32))
    return directions
