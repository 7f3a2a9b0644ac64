"""A frame made ready for training: its picture in memory, without lens distortion, at the size asked for."""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Frame
from gaussworld.errors import CaptureError
from gaussworld.io.images import read_depth, read_frame, read_mask

Color = tuple[float, float, float]
BLACK: Color = (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera and what it saw; bytes, because hundreds of pictures must fit in memory."""

    camera: Camera
    pixels: UInt8[Tensor, "h w 3"]
    """sRGB; multiplied by alpha where there is one, so that hidden colours cannot bleed into visible ones."""
    name: str = ""
    alpha: UInt8[Tensor, "h w"] | None = None
    """How much of the background each pixel hides, 255 is all; None hides it everywhere."""
    mask: Bool[Tensor, "h w"] | None = None
    """True where the picture counts; None counts everywhere."""
    depth: Float[Tensor, "h w"] | None = None
    """[unit of the poses] z-depth that a sensor measured; 0 means unknown."""

    @classmethod
    def of(cls, camera: Camera, image: Float[Tensor, "h w 3"], name: str = "") -> "View":
        """A view of a picture in [0, 1]."""
        return cls(camera, _bytes(image * 255), name)

    @property
    def image(self) -> Float[Tensor, "h w 3"]:
        """The picture in [0, 1], over black where it has transparency."""
        return self.over(BLACK)

    def over(self, background: Color | Float[Tensor, "3"]) -> Float[Tensor, "h w 3"]:
        """The picture in [0, 1] in front of a colour."""
        image = self.pixels.float() / 255
        if self.alpha is None:
            return image
        shown_through = 1 - (self.alpha.float() / 255)[..., None]
        return image + torch.as_tensor(background).to(image) * shown_through

    def resized(self, width: int, height: int) -> "View":
        """The same view with another number of pixels, averaged over areas; depth keeps measured values."""
        if (width, height) == (self.camera.width, self.camera.height):
            return self
        alpha = None if self.alpha is None else _averaged(self.alpha[..., None].float(), height, width)
        return View(
            self.camera.rescaled(width, height),
            _bytes(_averaged(self.pixels.float(), height, width)),
            self.name,
            None if alpha is None else _bytes(alpha[..., 0]),
            None
            if self.mask is None
            else _averaged(self.mask[..., None].float(), height, width)[..., 0] > 0.5,
            None if self.depth is None else _picked(self.depth, height, width),
        )

    def shrunk(self, factor: int) -> "View":
        """The same view with about 1/factor of the pixels in each direction."""
        return self.resized(max(1, self.camera.width // factor), max(1, self.camera.height // factor))

    def within(self, longest: int) -> "View":
        """The same view, shrunk so that its longer side has at most so many pixels; 0 leaves it."""
        side = max(self.camera.width, self.camera.height)
        if longest <= 0 or side <= longest:
            return self
        width, height = (max(1, round(s * longest / side)) for s in (self.camera.width, self.camera.height))
        return self.resized(width, height)

    def to(self, device: torch.device | str) -> "View":
        moved = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor | Camera)
        }
        return replace(self, **moved)


def load_view(frame: Frame, longest: int = 0, metres_per_unit: float | None = None) -> View:
    """Read a frame's picture, mask and depth, undo the distortion, shrink to at most `longest` pixels a side.

    Args:
        frame: what to read.
        longest: [px] the longer side of the view; 0 keeps the picture's size.
        metres_per_unit: [m] unit of the poses, in which depth from a file is expressed; None takes metres.

    Raises:
        CaptureError: the picture's proportions are not the camera's, or mask and picture differ in size.
        FileFormatError: a picture cannot be read.
    """
    image, distorted = read_frame(frame)
    if image.shape[-1] == 4:
        image = torch.cat([image[..., :3] * image[..., 3:], image[..., 3:]], dim=-1)
    image, distorted = _roughly_within(image, distorted, 2 * longest)
    height, width = image.shape[:2]
    mask = None if frame.mask is None else _mask(frame, height, width)
    depth = None if frame.depth is None else _depth(frame, distorted, metres_per_unit or 1.0)
    camera = undistorted_camera(distorted)
    if camera is not distorted:
        layers = [image] if mask is None else [image, mask[..., None].float()]
        flat = undistort(torch.cat(layers, dim=-1), distorted)
        image = flat[..., : image.shape[-1]]
        mask = None if mask is None else flat[..., -1] > 0.5
        depth = None if depth is None else undistort(depth[..., None], distorted, "nearest")[..., 0]
    alpha = _bytes(image[..., 3] * 255) if image.shape[-1] == 4 else None
    view = View(camera, _bytes(image[..., :3] * 255), frame.name, alpha, mask, depth)
    return view.within(longest)


def _roughly_within(
    image: Float[Tensor, "h w d"], camera: Camera, longest: int
) -> tuple[Float[Tensor, "h2 w2 d"], Camera]:
    """Shrunk by a whole factor to no less than `longest`: pixels that nobody will see cost time."""
    factor = max(camera.width, camera.height) // longest if longest > 0 else 1
    if factor < 2:
        return image, camera
    width, height = camera.width // factor, camera.height // factor
    return _averaged(image, height, width), camera.rescaled(width, height)


def _mask(frame: Frame, height: int, width: int) -> Bool[Tensor, "h w"]:
    assert frame.mask is not None
    mask = read_mask(frame.mask)
    if tuple(mask.shape) == (height, width):
        return mask
    if abs(mask.shape[0] * width - mask.shape[1] * height) > 2 * max(height, width):
        raise CaptureError(
            f"{frame.mask}: expected a mask with the proportions of its picture, {width}x{height}, got"
            f" {mask.shape[1]}x{mask.shape[0]}; make it from that picture"
        )
    return _averaged(mask[..., None].float(), height, width)[..., 0] > 0.5


def _depth(frame: Frame, camera: Camera, metres_per_unit: float) -> Float[Tensor, "h w"]:
    """A frame's depth as its picture's camera would measure it [unit of the poses]."""
    if isinstance(frame.depth, Tensor):
        depth = frame.depth
    else:
        assert frame.depth is not None
        depth = read_depth(frame.depth) / metres_per_unit
    height, width = depth.shape
    if frame.depth_camera is None:
        if (height, width) == (camera.height, camera.width):
            return depth
        return _picked(depth, camera.height, camera.width)
    return carried_over(depth, frame.depth_camera.rescaled(width, height), camera)


def carried_over(depth: Float[Tensor, "h w"], source: Camera, target: Camera) -> Float[Tensor, "h2 w2"]:
    """Depth measured by one camera as another would: the nearest surface wins; 0 where none is seen."""
    known = depth > 0
    points = source.unproject(source.pixel_centers()[known], depth[known])
    at, z = target.project(points)
    x, y = at[:, 0].floor().long(), at[:, 1].floor().long()
    seen = (z > 0) & (x >= 0) & (x < target.width) & (y >= 0) & (y < target.height)
    carried = torch.full((target.height * target.width,), float("inf"))
    carried.scatter_reduce_(0, (y * target.width + x)[seen], z[seen], "amin")
    return torch.where(carried.isinf(), 0.0, carried).reshape(target.height, target.width)


def depth_points(view: View, stride: int = 1) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """World points [unit of the poses] and colours of the pixels, every `stride`-th, with known depth."""
    assert view.depth is not None
    grid = torch.zeros_like(view.depth, dtype=torch.bool)
    grid[stride // 2 :: stride, stride // 2 :: stride] = True
    known = grid & (view.depth > 0)
    if view.mask is not None:
        known &= view.mask
    return view.camera.unproject(view.camera.pixel_centers()[known], view.depth[known]), view.image[known]


def undistorted_camera(camera: Camera) -> Camera:
    """The widest pinhole camera of the same size and principal point that sees only what `camera` saw."""
    if camera.model is CameraModel.PINHOLE:
        return camera
    return replace(camera.undistorted(), K=_flattening(_Lens.of(camera))[0].to(camera.K))


def undistort(
    image: Float[Tensor, "h w d"], camera: Camera, mode: str = "bilinear"
) -> Float[Tensor, "h w d"]:
    """The picture that `undistorted_camera(camera)` would have taken instead."""
    grid = _flattening(_Lens.of(camera))[1]
    channels = image.permute(2, 0, 1)[None]
    looked_up = torch.nn.functional.grid_sample(
        channels, grid[None], mode=mode, padding_mode="border", align_corners=False
    )
    return looked_up[0].permute(1, 2, 0).contiguous()


@dataclass(frozen=True)
class _Lens:
    """What of a camera decides how its pictures are bent."""

    focal: tuple[float, float, float, float]
    size: tuple[int, int]
    model: CameraModel
    distortion: tuple[float, ...]

    @classmethod
    def of(cls, camera: Camera) -> "_Lens":
        (fx, _, cx), (_, fy, cy), _ = camera.K.tolist()
        return cls((fx, fy, cx, cy), (camera.width, camera.height), camera.model, camera.distortion)

    def camera(self) -> Camera:
        fx, fy, cx, cy = self.focal
        K = torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        return Camera(torch.eye(4), K, *self.size, self.model, self.distortion)


@lru_cache(maxsize=4)
def _flattening(lens: _Lens) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "h w 2"]]:
    """K of the pinhole camera, and where its pixels lie in the bent picture, as `grid_sample` counts.

    Pictures of one camera share it, and it costs more than the picture.
    """
    camera = lens.camera()
    border = _border(camera)
    low, high = 0.5, 8.0
    for _ in range(30):
        middle = (low * high) ** 0.5
        if _inside(camera, _zoomed(camera, middle).directions(border)):
            high = middle
        else:
            low = middle
    pinhole = _zoomed(camera, high)
    plane = camera.distort(pinhole.directions(pinhole.pixel_centers()))
    pixels = plane @ camera.K[:2, :2].T + camera.K[:2, 2]
    return pinhole.K, pixels * 2 / pixels.new_tensor([camera.width, camera.height]) - 1


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


def _averaged(layers: Float[Tensor, "h w d"], height: int, width: int) -> Float[Tensor, "h2 w2 d"]:
    channels = layers.permute(2, 0, 1)[None]
    whole = layers.shape[0] % height == 0 and layers.shape[1] % width == 0
    if whole:
        resized = torch.nn.functional.interpolate(channels, (height, width), mode="area")
    else:
        resized = torch.nn.functional.interpolate(
            channels, (height, width), mode="bilinear", antialias=True, align_corners=False
        )
    return resized[0].permute(1, 2, 0).contiguous()


def _picked(depth: Float[Tensor, "h w"], height: int, width: int) -> Float[Tensor, "h2 w2"]:
    """One measured value for each pixel: means across an edge would be depths where nothing is."""
    return torch.nn.functional.interpolate(depth[None, None], (height, width), mode="nearest-exact")[0, 0]


def _bytes(values: Float[Tensor, "*b"]) -> UInt8[Tensor, "*b"]:
    return values.round().clamp(0, 255).to(torch.uint8).contiguous()
