"""InfoNCE and its gradient through blocks of the similarity matrix, which is never held whole."""

import math
from typing import Any

import torch
from torch import Tensor

# Rows of the similarity matrix held at a time: small enough to stay in cache, large enough to
# keep the matrix products busy.
_BLOCK_ROWS = 256


class InfoNCE(torch.autograd.Function):
    """Mean over anchors of -log softmax_j(a_i . c_j) at the positive, j not the anchor itself.

    Works through blocks of anchors and forms the gradient in the forward pass, where each block's
    softmax is at hand, so that no (anchors x candidates) matrix outlives its block.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,  # (a, d), divided by the temperature
        candidates: Tensor,  # (c, d), of unit length
        own: Tensor,  # (a,), each anchor's own index among the candidates
        positive: Tensor,  # (a,), its positive's
        with_gradient: bool,
    ) -> Tensor:
        loss = anchors.new_zeros(())
        grad_anchors = torch.empty_like(anchors)
        grad_candidates = torch.zeros_like(candidates)
        for block in range(0, len(anchors), _BLOCK_ROWS):
            rows = slice(block, block + _BLOCK_ROWS)
            # l_ij = a_i . c_j
            logits = torch.mm(anchors[rows], candidates.t())
            logits.scatter_(1, own[rows, None], -math.inf)
            log_sum = logits.logsumexp(dim=1, keepdim=True)
            at_positive = logits.gather(1, positive[rows, None])
            loss += (log_sum - at_positive).sum()
            if with_gradient:
                # dL/dl_ij = softmax_ij - [j is i's positive]
                grad = logits.sub_(log_sum).exp_()
                grad.scatter_add_(1, positive[rows, None], grad.new_full((len(grad), 1), -1.0))
                torch.mm(grad, candidates, out=grad_anchors[rows])
                grad_candidates.addmm_(grad.t(), anchors[rows])
        if with_gradient:
            scale = 1 / len(anchors)
            ctx.save_for_backward(grad_anchors.mul_(scale), grad_candidates.mul_(scale))
        return loss / len(anchors)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_anchors, grad_candidates = ctx.saved_tensors
        return grad_anchors * grad_output, grad_candidates * grad_output, None, None, None
