"""A frame made ready for training: its picture in memory, without lens distortion, at the size asked for."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Frame
from gaussworld.io.images import read_frame


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera and what it saw."""

    camera: Camera
    image: Float[Tensor, "h w 3"]
    """Range [0, 1]."""
    name: str = ""

    def shrunk(self, factor: int) -> "View":
        """The same view with about 1/factor of the pixels in each direction, averaged over areas."""
        if factor == 1:
            return self
        width, height = max(1, self.camera.width // factor), max(1, self.camera.height // factor)
        return View(self.camera.rescaled(width, height), _area(self.image, height, width), self.name)

    def to(self, device: torch.device | str) -> "View":
        return View(self.camera.to(device), self.image.to(device), self.name)


def load_view(
    frame: Frame, shrink: int = 1, background: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> View:
    """Read a frame's picture, put the background behind it, undo the distortion, shrink by a whole factor.

    Raises:
        CaptureError: the picture's proportions are not the camera's.
        FileFormatError: the picture cannot be read.
    """
    image, distorted = read_frame(frame)
    if image.shape[-1] == 4:
        alpha = image[..., 3:]
        image = image[..., :3] * alpha + image.new_tensor(background) * (1 - alpha)
    camera = undistorted_camera(distorted)
    if camera is not distorted:
        image = undistort(image, distorted, camera)
    return View(camera, image, frame.name).shrunk(shrink)


def undistorted_camera(camera: Camera) -> Camera:
    """The widest pinhole camera of the same size and principal point that sees only what `camera` saw."""
    if camera.model is CameraModel.PINHOLE:
        return camera
    border = _border(camera)
    low, high = 0.5, 8.0
    for _ in range(30):
        middle = (low * high) ** 0.5
        if _inside(camera, _zoomed(camera, middle).directions(border)):
            high = middle
        else:
            low = middle
    return _zoomed(camera, high)


def undistort(image: Float[Tensor, "h w 3"], camera: Camera, pinhole: Camera) -> Float[Tensor, "h2 w2 3"]:
    """The picture that `pinhole`, at the same place, would have taken instead of `camera` (bilinear)."""
    plane = camera.distort(pinhole.directions(pinhole.pixel_centers()))
    pixels = plane @ camera.K[:2, :2].T + camera.K[:2, 2]
    grid = pixels * 2 / pixels.new_tensor([camera.width, camera.height]) - 1
    channels = image.permute(2, 0, 1)[None]
    looked_up = torch.nn.functional.grid_sample(
        channels, grid[None], padding_mode="border", align_corners=False
    )
    return looked_up[0].permute(1, 2, 0).contiguous()


def _zoomed(camera: Camera, factor: float) -> Camera:
    K = camera.K * camera.K.new_tensor([[factor, factor, 1.0]] * 2 + [[1.0, 1.0, 1.0]])
    return replace(camera.undistorted(), K=K)


def _border(camera: Camera, count: int = 64) -> Float[Tensor, "m 2"]:
    """Points [px] along the edge of the picture, half a pixel inside."""
    t = torch.linspace(0, 1, count, dtype=torch.float64)
    low, wide, high = torch.full_like(t, 0.5), camera.width - 0.5, camera.height - 0.5
    x, y = 0.5 + t * (wide - 0.5), 0.5 + t * (high - 0.5)
    sides = [(x, low), (x, low * 0 + high), (low, y), (low * 0 + wide, y)]
    return torch.cat([torch.stack(side, dim=-1) for side in sides])


def _inside(camera: Camera, directions: Float[Tensor, "m 3"]) -> bool:
    pixels = camera.distort(directions) @ camera.K[:2, :2].to(directions).T + camera.K[:2, 2].to(directions)
    size = pixels.new_tensor([camera.width, camera.height])
    return bool(((pixels >= 0.5) & (pixels <= size - 0.5)).all())


def _area(image: Tensor, height: int, width: int) -> Tensor:
    channels = image.permute(2, 0, 1)[None]
    return (
        torch.nn.functional.interpolate(channels, (height, width), mode="area")[0]
        .permute(1, 2, 0)
        .contiguous()
    )
