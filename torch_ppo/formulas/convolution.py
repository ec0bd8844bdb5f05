"""A convolution that can multiply in bfloat16."""

from torch import Tensor, nn
from torch.nn import functional as F


class Conv(nn.Conv2d):
    """nn.Conv2d; with `in_bfloat16`, products are in bfloat16, and parameters and results stay as they are."""

    in_bfloat16 = False

    def forward(self, images: Tensor) -> Tensor:
        if not self.in_bfloat16:
            return super().forward(images)
        products = F.conv2d(images.bfloat16(), self.weight.bfloat16(), None, self.stride, self.padding)
        products = products.to(images.dtype)
        return products if self.bias is None else products + self.bias[:, None, None]
