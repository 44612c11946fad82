"""Steps of batch normalization between which mmcv exchanges statistics."""

from torch import Tensor

from .sampling import computable, operator


@operator
def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:  # noqa: A002 - as in mmcv
    """Write the mean of each channel of (B, C, S) to ``mean``, (C,)."""
    mean.copy_(computable(input).mean(dim=(0, 2)))


@operator
def sync_bn_forward_var(
    input: Tensor,  # noqa: A002 - as in mmcv
    mean: Tensor,
    var: Tensor,
) -> None:
    """Write the mean squared distance from ``mean`` to ``var``, (C,)."""
    var.copy_((computable(input) - mean[:, None]).square().mean(dim=(0, 2)))


@operator
def sync_bn_forward_output(
    input: Tensor,  # noqa: A002 - as in mmcv
    mean: Tensor,
    var: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    eps: float,
    momentum: float,
    group_size: int,
) -> None:
    """Normalize, and update the running statistics.

    Args:
        input: (B, C, S).
        mean: (C,), of all processes, like ``var``.
        var: (C,).
        weight: (C,).
        bias: (C,).
        running_mean: (C,), is updated, like ``running_var``.
        running_var: (C,).
        norm: (B, C, S), gets the input without mean and scale.
        std: (C,), gets the standard deviation.
        output: (B, C, S), gets ``norm`` times the weight plus the bias.
        eps: Added to the variance.
        momentum: Share of the new statistics in the running ones.
        group_size: Number of processes.
    """
    std.copy_((var + eps).sqrt())
    norm.copy_((computable(input) - mean[:, None]) / std[:, None])
    output.copy_(norm * weight[:, None] + bias[:, None])
    count = input.shape[0] * input.shape[2] * group_size
    unbiased = var * (count / (count - 1)) if count > 1 else var
    running_mean.lerp_(mean, float(momentum))
    running_var.lerp_(unbiased, float(momentum))


@operator
def sync_bn_backward_param(
    grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor
) -> None:
    """Write the gradients of weight and bias to the tensors given for them."""
    grads = computable(grad_output)
    grad_weight.copy_((grads * norm).sum(dim=(0, 2)))
    grad_bias.copy_(grads.sum(dim=(0, 2)))


@operator
def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Write the gradient of the input to ``grad_input``."""
    count = norm.shape[0] * norm.shape[2]
    through_mean = (norm * grad_weight[:, None] + grad_bias[:, None]) / count
    scale = (weight / std)[:, None]
    grad_input.copy_(scale * (computable(grad_output) - through_mean))
