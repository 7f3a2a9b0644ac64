"""Where was this picture taken? Recover a camera pose by gradient descent through the renderer.

    python examples/01_find_camera.py out/demo/scene.ply

The scene is any 3DGS .ply or .splat; `gaussworld demo` writes one. The camera starts 4 cm and 2 degrees off.
"""

import sys
from dataclasses import replace

import torch

import gaussworld as gw
from gaussworld.pose import pose_from, rotation_from_rotvec


def main(path: str) -> None:
    scene = gw.load(path)
    truth = gw.Camera.looking_at((0.9, -0.9, 0.7), (0.0, 0.0, 0.0), width=320, height=240)
    picture = gw.render(scene, truth).rgb
    start = truth.world_from_camera @ pose_from(
        rotation_from_rotvec(torch.tensor([0.02, -0.02, 0.02])), torch.tensor([0.02, -0.02, 0.03])
    )

    # Six numbers: a small turn [rad] and shift [m] in the camera's own frame.
    turn, shift = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([turn, shift], lr=5e-3)
    for step in range(200):
        pose = start @ pose_from(rotation_from_rotvec(turn), shift)
        rendering = gw.render(scene, replace(truth, world_from_camera=pose))
        loss = (rendering.rgb - picture).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0 or step == 199:
            away = (pose[:3, 3] - truth.center).norm().item()
            print(f"step {step:3d}  loss {loss.item():.5f}  camera {100 * away:.2f} cm off")
        for group in optimizer.param_groups:
            group["lr"] *= 0.98


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
