"""Convolutions that are differentiated by hand; see ``pipeline.training.chain``."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "image channel h w"]
Maps = Float[Tensor, "image filter map_h map_w"]
# By filter, row, column and channel.
Filters = Float[Tensor, " weight"]
Biases = Float[Tensor, " filter"]

# Outputs, of all images and filters, up to which products of matrices are faster; it was measured
# with 8 to 64 filters.
FEW_OUTPUTS = 20_480


class Geometry:
    """What convolutions of one layer have in common."""

    def __init__(self, layer: nn.Conv2d) -> None:
        rows, columns = layer.kernel_size
        self.shape = (layer.out_channels, rows, columns, layer.in_channels // layer.groups)
        steps: tuple[Any, ...] = layer.stride, layer.padding, layer.dilation
        # As torch's kernels take it; False and (0, 0): not transposed.
        self.own = (*steps, False, (0, 0), layer.groups)
        self.margins = (columns // 2, columns // 2, rows // 2, rows // 2)
        same = (1, 1), (rows // 2, columns // 2), (1, 1)
        self.keeps_size = rows % 2 == columns % 2 == 1 and steps == same and layer.groups == 1

    def convolution(self, x: Images, *parameters: Tensor) -> "Convolution":
        """What the layer makes of images with these parameters."""
        n, _, height, width = x.shape
        few = n * height * width * self.shape[0] <= FEW_OUTPUTS
        return (Products if few and self.keeps_size else Convolution)(self, x, *parameters)


class Convolution:
    """y = w * x + b, by torch's kernels."""

    def __init__(self, geometry: Geometry, x: Images, w: Filters, b: Biases | None = None) -> None:
        self.geometry, self.images, self.biased = geometry, x, b is not None
        self.x, self.w = self.seen(x), self.formed(w)
        self.y = self.convolved(self.x, self.w, b)

    def backward(self, g: Maps, of_x: bool) -> tuple[Images | None, list[Tensor]]:
        self.g = g
        return self.of_images(g, self.w) if of_x else None, self._slopes(
            g, self.of_filters(g, self.x)
        )

    def tangent(self, dx: Images | None, dw: Filters, db: Biases | None = None) -> Maps:
        self.dx, self.dw = None if dx is None else self.seen(dx), self.formed(dw)
        dy = self.convolved(self.x, self.dw, db)
        return dy if self.dx is None else dy.add_(self.convolved(self.dx, self.w, None))

    def backward_tangent(self, dg: Maps) -> tuple[Images | None, list[Tensor]]:
        of_x, of_w = None, self.of_filters(dg, self.x)
        if self.dx is not None:
            of_x = self.of_images(dg, self.w).add_(self.of_images(self.g, self.dw))
            of_w += self.of_filters(self.g, self.dx)
        return of_x, self._slopes(dg, of_w)

    def seen(self, x: Images) -> Tensor:
        """The form in which x meets filters."""
        return x

    def formed(self, w: Filters) -> Tensor:
        """The form in which w meets what is seen: (filter, channel, row, column)."""
        return w.view(self.geometry.shape).permute(0, 3, 1, 2)

    def convolved(self, x: Tensor, w: Tensor, b: Biases | None) -> Maps:
        """w * x + b, of x as it is seen and w as it is formed."""
        return torch.convolution(x, w, b, *self.geometry.own)

    def of_images(self, g: Maps, w: Tensor) -> Images:
        """The gradient of <g, w * x> by x."""
        return self._slope(g, self.images, w, 0)

    def of_filters(self, g: Maps, x: Tensor) -> Filters:
        """The gradient of <g, w * x> by w."""
        return self._slope(g, x, self.w, 1).permute(0, 2, 3, 1).reshape(-1)

    def _slopes(self, g: Maps, of_w: Filters) -> list[Tensor]:
        return [of_w, g.sum((0, 2, 3))] if self.biased else [of_w]

    def _slope(self, g: Maps, x: Images, w: Tensor, by: int) -> Tensor:
        """The gradient of <g, w * x> by x, if ``by`` is 0, or by w, if it is 1."""
        wanted = [by == 0, by == 1, False]
        slopes = torch.ops.aten.convolution_backward.default(
            g, x, w, None, *self.geometry.own, wanted
        )
        slope: Tensor = slopes[by]
        return slope


class Products(Convolution):
    """The same by products of matrices (im2col), for images that keep their size.

    Where these are small, as in the last layers of a small network on one episode, torch's kernels
    take most of their time to get ready.
    """

    def seen(self, x: Images) -> Float[Tensor, "pixel neighbour"]:
        """What the filters see at each pixel, by row, column and channel."""
        n, channels, height, width = x.shape
        _, rows, columns, _ = self.geometry.shape
        padded = torch.constant_pad_nd(x, self.geometry.margins)
        image, channel, down, right = padded.stride()
        windows = padded.as_strided(
            (n, height, width, rows, columns, channels), (image, down, right, down, right, channel)
        )
        return windows.reshape(n * height * width, -1)

    def formed(self, w: Filters) -> Float[Tensor, "neighbour filter"]:
        return w.view(self.geometry.shape[0], -1).T

    def convolved(
        self,
        x: Float[Tensor, "pixel neighbour"],
        w: Float[Tensor, "neighbour filter"],
        b: Biases | None,
    ) -> Maps:
        return self._images(x @ w if b is None else torch.addmm(b, x, w))

    def of_images(self, g: Maps, w: Float[Tensor, "neighbour filter"]) -> Images:
        turned = w.T.view(self.geometry.shape).flip(1, 2).permute(1, 2, 0, 3)
        return self._images(self.seen(g) @ turned.reshape(-1, self.geometry.shape[3]))

    def of_filters(self, g: Maps, x: Float[Tensor, "pixel neighbour"]) -> Filters:
        return (g.permute(0, 2, 3, 1).reshape(x.shape[0], -1).T @ x).view(-1)

    def _images(self, pixels: Float[Tensor, "pixel channel"]) -> Images:
        n, _, height, width = self.images.shape
        return pixels.view(n, height, width, -1).permute(0, 3, 1, 2)
