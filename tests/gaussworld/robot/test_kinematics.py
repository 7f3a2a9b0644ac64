"""Forward kinematics: against yourdfpy and MuJoCo on the Panda, differentiable, within limits."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussworld.robot import Robot, load_robot, posed_meshes
from gaussworld.robot.model import joint_motion
from gaussworld.world_object import Joint


@pytest.fixture(scope="session")
def panda_path(captures: Path) -> Path:
    return captures / "pusht_robot" / "assets" / "robots" / "panda.urdf"


@pytest.fixture(scope="session")
def panda(panda_path: Path) -> Robot:
    return load_robot(panda_path)


def drawn(robot: Robot, count: int) -> torch.Tensor:
    low, high = robot.limits.unbind(1)
    g = torch.Generator().manual_seed(0)
    return low + (high - low) * torch.rand(count, len(low), generator=g, dtype=torch.float64)


def test_panda_stands_as_yourdfpy_has_it(panda: Robot, panda_path: Path):
    """Every link, at random positions."""
    yourdfpy = pytest.importorskip("yourdfpy")
    peer = yourdfpy.URDF.load(str(panda_path), load_meshes=False, build_scene_graph=True)
    positions = drawn(panda, 4)
    poses = panda.link_poses(positions)
    assert poses.shape == (4, 13, 4, 4)
    for row, pose in zip(positions.tolist(), poses):
        peer.update_cfg(dict(zip(panda.joint_names, row)))
        for name, ours in zip(panda.link_names, pose):
            theirs = peer.get_transform(name, panda.link_names[0])
            assert np.abs(theirs - ours.numpy()).max() < 1e-6


def test_panda_stands_as_mujoco_has_it(panda: Robot, panda_path: Path):
    """Every body that MuJoCo keeps, at random positions."""
    mujoco = pytest.importorskip("mujoco")
    # Meshes are left out: the file names them relative to itself, and kinematics needs none.
    text = re.sub(r"<collision>.*?</collision>", "", panda_path.read_text(), flags=re.S)
    text = text.replace(
        "</robot>", '<mujoco><compiler fusestatic="false" balanceinertia="true"/></mujoco></robot>'
    )
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    for positions in drawn(panda, 3):
        for name, value in panda.all_positions(positions).items():
            data.qpos[model.jnt_qposadr[mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name)]] = value
        mujoco.mj_kinematics(model, data)
        checked = 0
        for name, ours in zip(panda.link_names[1:], panda.link_poses(positions)[1:]):
            body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
            if body >= 0:
                checked += 1
                assert np.abs(data.xpos[body] - ours[:3, 3].numpy()).max() < 1e-5
                assert np.abs(data.xmat[body].reshape(3, 3) - ours[:3, :3].numpy()).max() < 1e-5
        assert checked >= 10


def test_gradients_of_the_hand(panda: Robot):
    """Finite differences of a link's pose by every joint; batches of any shape."""
    positions = drawn(panda, 1)[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda q: panda.link_poses(q)[10], (positions,), eps=1e-6, atol=1e-5)
    batch = drawn(panda, 6).reshape(2, 3, -1)
    assert torch.allclose(panda.link_poses(batch)[1, 2], panda.link_poses(batch[1, 2]), atol=1e-12)
    with pytest.raises(ValueError, match=r"joint_positions: expected shape \(\*b, 8\), got \(3,\)"):
        panda.link_poses(torch.zeros(3))


def test_limits_are_named(panda: Robot):
    """A value outside is refused with the limit, or clamped when asked; unknown joints are told apart."""
    with pytest.raises(ValueError, match=r"joint panda_joint4: .* limits -3.1416 to 0, got 0.3"):
        panda.positions({"panda_joint4": 0.3})
    assert panda.positions({"panda_joint4": 0.3}, clamp=True).tolist()[3] == 0
    with pytest.raises(ValueError, match=r"joint panda_finger_joint2: expected no value, because it follows"):
        panda.positions({"panda_finger_joint2": 0.01})
    with pytest.raises(ValueError, match=r"joint panda_joint8: expected no value, because it is fixed"):
        panda.positions({"panda_joint8": 0.01})
    with pytest.raises(ValueError, match=r"expected a joint of panda \(panda_joint1, .*\), got 'elbow'"):
        panda.positions({"elbow": 0.01})
    with pytest.raises(ValueError, match=r"expected 8 joint values .*, got 2"):
        panda.positions([0.0, 0.1])
    with pytest.raises(ValueError, match="expected a finite number"):
        panda.positions({"panda_joint1": float("nan")})


def test_panda_meshes_hang_together(panda: Robot):
    """Neighbouring links touch, and the arm is as high as the data sheet says: 1.19 m stretched upwards."""
    meshes = posed_meshes(panda, {})
    assert len(meshes) == 12
    highest = max(float(mesh.vertices[:, 2].max()) for mesh in meshes.values())
    assert 1.0 < highest < 1.25


def test_joint_motion_is_that_of_worlds():
    """The fast formula for axes through the origin agrees with `Joint.motion`."""
    angles = torch.linspace(-4, 4, 9, dtype=torch.float64)
    for kind in ("revolute", "prismatic"):
        wanted = Joint(kind, (0.6, 0.0, 0.8)).motion(angles)
        assert torch.allclose(joint_motion(kind, (0.6, 0.0, 0.8), angles), wanted, atol=1e-7)
