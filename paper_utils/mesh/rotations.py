r"""Four ways to write a rotation, and how to get from one to another: axis-angle, quaternion, matrix, six numbers.

Conventions are PyTorch3D's, which TalkSHOW's code uses: quaternions have the real part first, matrices turn column vectors, and the six
numbers are the first two rows of the matrix. The axis-angle of SMPL and FLAME with their small constant is `skinning.rotation_matrices`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SMALL_ANGLE = 1e-6  # radians; below it sin(a/2)/a is taken from its series (PyTorch3D)
LEAST_LENGTH = 1e-12  # a shorter vector of the six numbers counts as that long (PyTorch3D's normalize)


def _check(name: str, values: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(values.shape[-len(shape) :]) != shape:
        raise ValueError(f"{name}: expected a shape that ends in {shape}, found {tuple(values.shape)}")
    if not torch.isfinite(values).all():
        raise ValueError(
            f"{name}: {int((~torch.isfinite(values)).sum())} of {values.numel()} values are NaN or infinite"
        )


def _half_sine_over_angle(angle: Tensor) -> Tensor:
    r""":math:`\sin(a/2)/a`, by its series :math:`1/2 - a^2/48` near zero; finite gradient at zero."""
    small = angle.abs() < SMALL_ANGLE
    safe = torch.where(small, torch.ones_like(angle), angle)
    return torch.where(small, 0.5 - angle * angle / 48, torch.sin(safe / 2) / safe)


def _length(vectors: Tensor) -> Tensor:
    """Length of the last dimension, kept; its gradient at zero is zero instead of NaN."""
    return _root((vectors * vectors).sum(-1, keepdim=True))


def quaternion_from_axis_angle(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
    r"""Unit quaternion of a rotation by :math:`a = |r|` radians about :math:`r/a`.

    .. math:: q = \big(\cos(a/2),\ r \sin(a/2) / a\big)

    Examples
    --------
    >>> quaternion_from_axis_angle(torch.zeros(3)).tolist()
    [1.0, 0.0, 0.0, 0.0]
    """
    _check("axis_angle", axis_angle, (3,))
    angle = _length(axis_angle)
    return torch.cat((torch.cos(angle / 2), axis_angle * _half_sine_over_angle(angle)), dim=-1)


def axis_angle_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    r"""Inverse of `quaternion_from_axis_angle` for unit quaternions.

    .. math:: a = 2 \operatorname{atan2}(|q_{xyz}|, q_w), \qquad r = q_{xyz}\, \frac{a}{\sin(a/2)}

    Parameters
    ----------
    quaternion
        Real part first. A negative real part gives an angle above pi: the vector is not wrapped.
    """
    _check("quaternion", quaternion, (4,))
    imaginary = quaternion[..., 1:]
    angle = 2 * torch.atan2(_length(imaginary), quaternion[..., :1])
    return imaginary / _half_sine_over_angle(angle)


def matrix_from_quaternion(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    r"""Rotation matrix of a quaternion of any length but zero.

    With :math:`s = 2/|q|^2`,

    .. math::
        R = I + s \begin{pmatrix} -y^2-z^2 & xy-zw & xz+yw \\ xy+zw & -x^2-z^2 & yz-xw \\ xz-yw & yz+xw & -x^2-y^2 \end{pmatrix}

    Raises
    ------
    ValueError
        If a quaternion is zero.
    """
    _check("quaternion", quaternion, (4,))
    squared = (quaternion * quaternion).sum(-1)
    if (squared == 0).any():
        raise ValueError(f"quaternion: {int((squared == 0).sum())} of {squared.numel()} are zero and name no rotation")
    w, x, y, z = quaternion.unbind(-1)
    scale = 2 / squared
    rows = (
        (1 - scale * (y * y + z * z), scale * (x * y - z * w), scale * (x * z + y * w)),
        (scale * (x * y + z * w), 1 - scale * (x * x + z * z), scale * (y * z - x * w)),
        (scale * (x * z - y * w), scale * (y * z + x * w), 1 - scale * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quaternion_from_matrix(matrix: Float[Tensor, "*batch 3 3"], *, accurate: bool = False) -> Float[Tensor, "*batch 4"]:
    r"""Unit quaternion of a rotation matrix; its real part is not negative.

    .. math::
        q_w = \tfrac12 \sqrt{1 + R_{00} + R_{11} + R_{22}}, \qquad
        |q_x| = \tfrac12 \sqrt{1 + R_{00} - R_{11} - R_{22}} \ \text{with the sign of}\ R_{21} - R_{12}

    and so on for y and z.

    Parameters
    ----------
    matrix
        A rotation.
    accurate
        The formula above is the one behind TalkSHOW's data. Small components are the root of a difference that rounding has eaten, so they are
        off by up to the square root of the number format's precision (3e-4 in float32, 1e-8 in float64). True takes the largest component
        from its root and the others by division, which keeps all digits.
    """
    _check("matrix", matrix, (3, 3))
    (r00, r01, r02), (r10, r11, r12), (r20, r21, r22) = (row.unbind(-1) for row in matrix.unbind(-2))
    double = torch.stack(
        [
            _root(square)
            for square in (1 + r00 + r11 + r22, 1 + r00 - r11 - r22, 1 - r00 + r11 - r22, 1 - r00 - r11 + r22)
        ],
        dim=-1,
    )  # 2 |q|, component by component
    wx, wy, wz = r21 - r12, r02 - r20, r10 - r01  # 4 q_w q_x, ...
    if not accurate:
        signs = torch.stack((torch.ones_like(wx), wx, wy, wz), dim=-1)
        return torch.where(signs < 0, -double, double) / 2
    xy, xz, yz = r10 + r01, r20 + r02, r21 + r12
    w2, x2, y2, z2 = (double * double).unbind(-1)
    rows = ((w2, wx, wy, wz), (wx, x2, xy, xz), (wy, xy, y2, yz), (wz, xz, yz, z2))  # 4 q_k q, one row for each k
    products = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    largest = double.argmax(-1, keepdim=True)
    found = products.gather(-2, largest[..., None].expand(*double.shape[:-1], 1, 4)).squeeze(-2)
    found = found / (2 * double.gather(-1, largest))
    return torch.where(found[..., :1] < 0, -found, found)


def _root(squared: Tensor) -> Tensor:
    """Square root of what is positive, zero of the rest, with a gradient of zero there."""
    positive = squared > 0
    return torch.where(
        positive, torch.where(positive, squared, torch.ones_like(squared)).sqrt(), torch.zeros_like(squared)
    )


def matrix_from_axis_angle(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of an axis-angle vector (radians), by way of the quaternion."""
    return matrix_from_quaternion(quaternion_from_axis_angle(axis_angle))


def axis_angle_from_matrix(matrix: Float[Tensor, "*batch 3 3"], *, accurate: bool = False) -> Float[Tensor, "*batch 3"]:
    """Axis-angle vector (radians) of a rotation matrix, by way of `quaternion_from_matrix`.

    The vector can be another one than the matrix was made from, for the same rotation: a full turn is not remembered, and at half a turn
    the sign of the axis is arbitrary.
    """
    return axis_angle_from_quaternion(quaternion_from_matrix(matrix, accurate=accurate))


def six_d_from_matrix(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """The first two rows of the matrix, flattened (Zhou et al. 2019, who take columns)."""
    _check("matrix", matrix, (3, 3))
    return matrix[..., :2, :].flatten(-2)


def matrix_from_six_d(six_d: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    r"""Rotation matrix from any six numbers by Gram-Schmidt on two rows.

    .. math:: b_1 = \frac{a_1}{|a_1|}, \quad b_2 = \frac{a_2 - (b_1 \cdot a_2) b_1}{|a_2 - (b_1 \cdot a_2) b_1|}, \quad b_3 = b_1 \times b_2

    Parameters
    ----------
    six_d
        Rows :math:`a_1, a_2`. Parallel or zero rows have no answer; they give a matrix that is no rotation.

    References
    ----------
    Zhou et al. (2019), On the continuity of rotation representations in neural networks.
    """
    _check("six_d", six_d, (6,))
    first, second = six_d.unflatten(-1, (2, 3)).unbind(-2)
    first = first / _length(first).clamp_min(LEAST_LENGTH)
    second = second - (first * second).sum(-1, keepdim=True) * first
    second = second / _length(second).clamp_min(LEAST_LENGTH)
    return torch.stack((first, second, torch.linalg.cross(first, second)), dim=-2)


def six_d_from_axis_angle(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 6"]:
    """The six numbers of an axis-angle vector (radians): TalkSHOW's 6D option, joint by joint."""
    return six_d_from_matrix(matrix_from_axis_angle(axis_angle))


def axis_angle_from_six_d(six_d: Float[Tensor, "*batch 6"], *, accurate: bool = False) -> Float[Tensor, "*batch 3"]:
    """Axis-angle vector (radians) of six numbers, by way of `quaternion_from_matrix`."""
    return axis_angle_from_matrix(matrix_from_six_d(six_d), accurate=accurate)
