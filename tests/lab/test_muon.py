"""The optimizer of matrices."""

import torch

from lab.muon import Muon, orthogonalize


def test_orthogonal_update_keeps_directions_and_levels_lengths() -> None:
    """Singular vectors stay, singular values all come near 1."""
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(6, 4))
    right, _ = torch.linalg.qr(torch.randn(4, 4))
    matrix = left @ torch.diag(torch.tensor([5.0, 2.0, 1.0, 0.3])) @ right.T

    values = left.T @ orthogonalize(matrix[None])[0] @ right

    assert torch.allclose(values, torch.diag(values.diagonal()), atol=1e-3)
    assert ((values.diagonal() > 0.6) & (values.diagonal() < 1.3)).all()


def test_matrices_of_one_shape_do_not_mix() -> None:
    """A stack gives what each matrix gives alone, wide or tall."""
    torch.manual_seed(0)
    for shape in [(3, 5), (5, 3)]:
        stack = torch.randn(2, *shape)
        alone = torch.cat([orthogonalize(matrix[None]) for matrix in stack])

        assert torch.allclose(orthogonalize(stack), alone, atol=1e-5)


def test_agrees_with_torch_but_for_precision() -> None:
    """Three steps move parameters as `torch.optim.Muon` does, which computes in bfloat16."""
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 8), torch.randn(3, 4, 8)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    optimizers = [Muon([ours], **settings), torch.optim.Muon([theirs], **settings)]
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()

    assert (ours - start).norm() > 0.3
    assert torch.allclose(ours, theirs, atol=0.02)


def test_momentum_by_hand() -> None:
    """A 1 × 1 matrix moves by the learning rate times the levelled sign of its gradient."""
    parameter = torch.nn.Parameter(torch.zeros(1, 1))
    optimizer = Muon([parameter], lr=0.5, momentum=0.9)
    parameter.grad = torch.full((1, 1), -3.0)
    optimizer.step()

    assert torch.allclose(parameter, 0.5 * orthogonalize(torch.ones(1, 1, 1))[0])
    assert parameter.item() > 0.3
