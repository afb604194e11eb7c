"""How many queries of each episode a head gets right, from one Gram matrix of all features."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.data.episodes import Episodes
from pipeline.errors import UserError

# (support_gram, query_support, labels) to logits; see pipeline.heads.ridge.
Head = Callable[[Tensor, Tensor, Tensor], Tensor]

# So many episodes at a time stay in a CPU's cache and still fill its vector units.
CHUNK = 128


def gram(features: Tensor) -> Tensor:
    """Inner products of all pairs: (image, feature) to (image, image).

    The matrix is symmetric, so only blocks on and above the diagonal are multiplied.
    """
    n = len(features)
    result = features.new_empty(n, n)
    step = max(512, -(-n // 16))
    for i in range(0, n, step):
        rows = features[i : i + step]
        for j in range(i, n, step):
            block = rows @ features[j : j + step].T
            if j == i:
                # A product's two orders may round differently.
                block = block.tril() + block.tril(-1).T
            result[i : i + step, j : j + step] = block
            if j > i:
                result[j : j + step, i : i + step] = block.T
    return result


def one_hot(n_way: int, n_shot: int, like: Tensor) -> Tensor:
    """Labels of a support grouped by class: (1, way * shot, way)."""
    classes = torch.eye(n_way, dtype=like.dtype, device=like.device)
    return classes.repeat_interleave(n_shot, 0)[None]


def correct(products: Tensor, episodes: Episodes, heads: dict[str, Head]) -> dict[str, Tensor]:
    """Count the queries that each head classifies correctly.

    Parameters
    ----------
    products
        (image, image) Gram matrix, symmetric.
    episodes
        Support (episode, way, shot) and query (episode, way, query) indices into it.

    Returns
    -------
    dict
        Per head (episode,) counts out of way * query.

    Raises
    ------
    UserError
        If a head's logits are not finite: nothing could be said of its accuracy.
    """
    n_episodes, n_way, n_shot = episodes.support.shape
    n_query = episodes.query.shape[-1]
    support = torch.from_numpy(episodes.support).flatten(1).to(products.device)
    query = torch.from_numpy(episodes.query).flatten(1).to(products.device)
    truth = torch.arange(n_way, device=products.device).repeat_interleave(n_query)
    labels = one_hot(n_way, n_shot, products)
    counts: dict[str, list[Tensor]] = {name: [] for name in heads}
    finite = {name: torch.ones((), dtype=torch.bool, device=products.device) for name in heads}
    for start in range(0, n_episodes, CHUNK):
        rows = support[start : start + CHUNK]
        support_gram = _gather(products, rows, rows)
        # Gathered by support row, since reading along a row is what memory is fast at.
        query_support = _gather(products, rows, query[start : start + CHUNK]).transpose(1, 2)
        for name, head in heads.items():
            scores = head(support_gram, query_support, labels.expand(len(rows), -1, -1))
            counts[name].append((scores.argmax(-1) == truth).sum(-1))
            finite[name] &= scores.isfinite().all()
    for name, fine in finite.items():
        if not fine:
            raise UserError(f"the {name} head: logits are not finite; are the features too large?")
    return {name: torch.cat(parts) for name, parts in counts.items()}


def _gather(products: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """products[rows, columns] for each episode: (episode, row, column)."""
    places = rows[:, :, None] * products.shape[1] + columns[:, None, :]
    return products.view(-1).index_select(0, places.view(-1)).view(places.shape)
