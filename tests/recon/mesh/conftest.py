"""Things made of Gaussians with known surfaces, for the tests of meshes."""

from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def things():
    """`box`, `ball` and `sheet`: Gaussians on surfaces; `ring`: cameras. Nothing is imported before."""
    import math

    import torch

    from gaussworld.camera import Camera
    from gaussworld.gaussians import Gaussians, cat

    def flat(points, normals, size, rgb):
        """Discs at points, across the normals."""
        half = torch.nn.functional.normalize(normals + torch.tensor([0.0, 0.0, 1.0 + 1e-6]), dim=1)
        # The rotation by pi about the bisector takes +z to the normal.
        quats = torch.cat([torch.zeros(len(points), 1), half], dim=1)
        quats[normals[:, 2] < -0.999] = torch.tensor([0.0, 1.0, 0.0, 0.0])
        scales = torch.tensor([1.0, 1.0, 0.03]).expand(len(points), 3) * size
        colors = torch.tensor(rgb).expand(len(points), 3)
        return Gaussians.from_activated(points, quats, scales, torch.full((len(points),), 0.95), colors)

    def sheet(width, depth, step=0.01, rgb=(0.5, 0.5, 0.5), z=0.0):
        x, y = (torch.arange(-side / 2, side / 2 + 1e-6, step) for side in (width, depth))
        spots = torch.cartesian_prod(x, y)
        points = torch.cat([spots, torch.full((len(spots), 1), z)], dim=1)
        return flat(points, torch.tensor([0.0, 0.0, 1.0]).expand_as(points), 0.7 * step, rgb)

    def box(size, middle, step=0.006, rgb=(0.8, 0.3, 0.2), bottom=False):
        parts, half = [], torch.tensor(size) / 2
        for axis in range(3):
            for sign in (1.0, -1.0):
                if axis == 2 and sign < 0 and not bottom:
                    continue
                others = [i for i in range(3) if i != axis]
                # Discs reach beyond their middles, and must not beyond the edges.
                ends = [float(half[i]) - 0.7 * step for i in others]
                spans = [torch.linspace(-end, end, round(2 * end / step) + 1) for end in ends]
                spots = torch.cartesian_prod(*spans)
                points = torch.empty(len(spots), 3)
                points[:, others], points[:, axis] = spots, sign * half[axis]
                normals = torch.zeros_like(points)
                normals[:, axis] = sign
                parts.append(flat(points + torch.tensor(middle), normals, 0.7 * step, rgb))
        return cat(parts)

    def ball(radius, middle, count=1500, rgb=(0.2, 0.6, 0.3)):
        i = torch.arange(count) + 0.5
        z, turn = 1 - 2 * i / count, math.pi * (1 + 5**0.5) * i
        normals = torch.stack([(1 - z * z).sqrt() * turn.cos(), (1 - z * z).sqrt() * turn.sin(), z], dim=1)
        size = radius * (4 * math.pi / count) ** 0.5
        return flat(normals * radius + torch.tensor(middle), normals, 0.7 * size, rgb)

    def ring(count=12, radius=0.9, height=0.6, target=(0.0, 0.0, 0.03), width=200, rows=150):
        turns = [2 * math.pi * i / count for i in range(count)]
        eyes = [
            (radius * math.cos(t), radius * math.sin(t), height * (0.6 + 0.8 * (i % 2)))
            for i, t in enumerate(turns)
        ]
        return tuple(Camera.looking_at(eye, target, width, rows, 40.0) for eye in eyes)

    return SimpleNamespace(flat=flat, sheet=sheet, box=box, ball=ball, ring=ring)
