"""The layout of episodes on disk: names, versions, and the shape of every array."""

FORMAT, VERSION = "gaussworld-episodes", 1
FRAME = "world, +z up, metres"
INDEX, CARD, ARRAYS = "episodes.json", "episode.json", "episode.safetensors"
#: [bytes] a JSON larger than this is not what it is taken for.
MOST_BYTES = 1 << 28
#: Trailing axes of every array that has one row for each of the t + 1 moments, or of the t actions.
MOMENTS: dict[str, tuple[str | int, ...]] = {
    "time": (),
    "tool_poses": ("a", 7),
    "grip": ("a",),
    "object_poses": ("o", 7),
    "object_twists": ("o", 6),
    "joint_positions": ("j",),
    "joint_rates": ("j",),
    "points": ("q", 3),
    "contacts": ("o", "m"),
}
ACTIONS: dict[str, tuple[str | int, ...]] = {"action_tools": ("a", 7), "action_grip": ("a",)}
#: Arrays that do not change with time.
FIXED: dict[str, tuple[str | int, ...]] = {
    "object_ids": ("o",),
    "joint_ids": ("j",),
    "point_objects": ("q",),
    "point_rest": ("q", 3),
}
INTEGERS = ("object_ids", "joint_ids", "point_objects")
