"""URDF files: what is read of them, and every bad one refused in a sentence."""

from pathlib import Path

import pytest
import torch

from gaussworld.errors import FileFormatError, MissingDependency
from gaussworld.robot import load_robot, posed_meshes
from gaussworld.robot.geometry import link_shape
from gaussworld.shape import is_closed

ARM = """<robot name="arm">
  <material name="red"><color rgba="0.9 0.1 0.1 1"/></material>
  <link name="base">
    <inertial><mass value="2"/><origin xyz="0 0 0.1"/></inertial>
    <visual><geometry><box size="0.2 0.2 0.1"/></geometry><material name="red"/></visual>
  </link>
  <link name="upper">
    <visual><origin xyz="0 0 0.2"/><geometry><cylinder radius="0.04" length="0.4"/></geometry></visual>
    <collision><origin xyz="0 0 0.2"/><geometry><box size="0.1 0.1 0.4"/></geometry></collision>
  </link>
  <link name="mount"/>
  <link name="left"><collision><geometry><sphere radius="0.03"/></geometry></collision></link>
  <link name="right"><collision><geometry><sphere radius="0.03"/></geometry></collision></link>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/>
    <origin xyz="0 0 0.05" rpy="0.1 0.2 0.3"/><axis xyz="0 2 0"/><limit lower="-1" upper="1.5"/></joint>
  <joint name="wrist" type="fixed"><parent link="upper"/><child link="mount"/><origin xyz="0 0 0.4"/></joint>
  <joint name="grip" type="prismatic"><parent link="mount"/><child link="left"/>
    <axis xyz="0 1 0"/><limit lower="0" upper="0.04"/></joint>
  <joint name="other" type="prismatic"><parent link="mount"/><child link="right"/>
    <axis xyz="0 -1 0"/><limit lower="0" upper="0.03"/>
    <mimic joint="grip" multiplier="2" offset="0.01"/></joint>
</robot>"""


def write(folder: Path, text: str = ARM, name: str = "arm.urdf") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_links_joints_colours_and_limits(tmp_path: Path):
    """Primitives, materials by name, masses; mimicking joints are not free, and narrow what they follow."""
    robot = load_robot(write(tmp_path))
    assert robot.link_names == ("base", "upper", "mount", "left", "right")
    assert robot.joint_names == ("shoulder", "grip")
    assert robot.limits.tolist() == [[-1, 1.5], pytest.approx([0, 0.01])]
    assert robot.joints[0].axis == (0, 1, 0)
    base = robot.link("base")
    assert base.mass == 2 and base.center_of_mass == (0, 0, 0.1)
    assert base.visual[0].surface.paints[0].color == pytest.approx((0.9, 0.1, 0.1))
    shape = link_shape(robot.link("upper"))
    assert shape is not None and shape.parts[0].volume == pytest.approx(0.004, rel=1e-5)
    assert is_closed(shape.mesh) and shape.mesh.volume == pytest.approx(0.4 * 3.1366 * 0.0016, rel=1e-3)


def test_posed_meshes_stand_where_the_joints_put_them(tmp_path: Path):
    """In the world frame; links without geometry have none."""
    robot = load_robot(write(tmp_path))
    base = torch.eye(4)
    base[0, 3] = 2.0
    meshes = posed_meshes(robot, {"shoulder": 1.0, "grip": 0.01}, base)
    assert set(meshes) == {"base", "upper", "left", "right"}
    assert meshes["base"].vertices.mean(0).tolist() == pytest.approx([2, 0, 0], abs=1e-6)
    apart = meshes["left"].vertices.mean(0) - meshes["right"].vertices.mean(0)
    assert float(apart.norm()) == pytest.approx(0.01 + (2 * 0.01 + 0.01), abs=1e-5)
    assert meshes["base"].colors is not None


def test_packages_are_found_beside_above_and_where_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`package://` by folder name, by package.xml, by a given path and by ROS_PACKAGE_PATH."""
    text = ARM.replace('<sphere radius="0.03"/>', '<mesh filename="package://my_arm/meshes/tip.stl"/>')
    corners = "vertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0"
    stl = f"solid a\nfacet normal 0 0 1\nouter loop\n{corners}\nendloop\nendfacet\nendsolid a\n"
    for folder, urdf in (("my_arm", "my_arm/urdf"), ("given/my_arm", "x"), ("ros/my_arm", "y")):
        mesh = tmp_path / folder / "meshes" / "tip.stl"
        mesh.parent.mkdir(parents=True)
        mesh.write_text(stl)
        (tmp_path / urdf).mkdir(exist_ok=True)
    load_robot(write(tmp_path / "my_arm" / "urdf", text))
    (tmp_path / "my_arm").rename(tmp_path / "renamed")
    with pytest.raises(FileFormatError):
        load_robot(write(tmp_path / "x", text))
    load_robot(write(tmp_path / "x", text), [tmp_path / "given"])
    monkeypatch.setenv("ROS_PACKAGE_PATH", str(tmp_path / "ros"))
    load_robot(write(tmp_path / "y", text))
    monkeypatch.delenv("ROS_PACKAGE_PATH")
    (tmp_path / "renamed" / "package.xml").write_text("<package><name>my_arm</name></package>")
    load_robot(tmp_path / "renamed" / "urdf" / "arm.urdf")


def test_missing_meshes_are_all_named_or_substituted(tmp_path: Path):
    """One sentence names each and where it was sought; else collision geometry stands in for them."""
    text = ARM.replace('<cylinder radius="0.04" length="0.4"/>', '<mesh filename="package://lost/a.stl"/>')
    path = write(tmp_path, text.replace('<box size="0.2 0.2 0.1"/>', '<mesh filename="b.obj"/>'))
    with pytest.raises(FileFormatError) as caught:
        load_robot(path)
    for part in ("2 that are not there", "package://lost/a.stl (sought at", "b.obj", "package path"):
        assert part in str(caught.value)
    robot = load_robot(path, missing="substitute")
    assert len(robot.notices) == 1 and robot.link("base").pieces == ()
    assert robot.link("upper").pieces == robot.link("upper").collision


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</robot>", "", r"expected a URDF, got XML that is broken"),
        (
            '<robot name="arm">',
            "<robot name='arm' xmlns:xacro='http://www.ros.org/wiki/xacro'><xacro:if/>",
            "xacro",
        ),
        ('type="revolute"', 'type="hinge"', "joint shoulder: expected a kind among .*, got 'hinge'"),
        ('<child link="upper"/>', '<child link="upperr"/>', "joint shoulder: expected a link, got 'upperr'"),
        (
            '<child link="right"/>',
            '<child link="left"/>',
            "link left: expected one joint above it, got grip and other",
        ),
        (
            '<child link="mount"/>',
            '<child link="base"/>',
            "expected a tree of links, got a loop through base, upper",
        ),
        ('<limit lower="-1" upper="1.5"/>', '<limit lower="2" upper="1"/>', "expected lower <= upper"),
        ('<limit lower="-1" upper="1.5"/>', "", "joint shoulder: expected <limit>"),
        ('<mimic joint="grip"', '<mimic joint="wrist"', "joint other: expected to mimic a joint that moves"),
        ('size="0.2 0.2 0.1"', 'size="0.2 0.2"', "link base: visual: size: expected 3 numbers"),
        ('size="0.2 0.2 0.1"', 'size="0.2 0.2 -1"', "expected positive sizes"),
        ('<axis xyz="0 2 0"/>', '<axis xyz="0 0 0"/>', "expected an axis of a length above 0"),
        ('<box size="0.2 0.2 0.1"/>', "<cone/>", "expected a box, cylinder, sphere or mesh, got <cone>"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, old: str, new: str, message: str):
    """Each in one sentence that names the file and the element."""
    assert old in ARM
    path = write(tmp_path, ARM.replace(old, new, 1))
    with pytest.raises(FileFormatError, match=message) as caught:
        load_robot(path)
    assert str(path) in str(caught.value)


def test_loose_joints_are_read_as_fixed_and_said_so(tmp_path: Path):
    """A floating base stands where it is."""
    robot = load_robot(write(tmp_path, ARM.replace('type="revolute"', 'type="floating"')))
    assert robot.joint_names == ("grip",) and "shoulder" in robot.notices[0]


def test_collada_without_its_reader(tmp_path: Path):
    """The sentence says what to install or to convert."""
    try:
        import collada  # noqa: F401  # pyright: ignore
    except ImportError:
        pass
    else:
        pytest.skip("pycollada is installed")
    (tmp_path / "b.dae").write_text("<COLLADA/>")
    path = write(tmp_path, ARM.replace('<box size="0.2 0.2 0.1"/>', '<mesh filename="b.dae"/>'))
    with pytest.raises(MissingDependency, match="pip install pycollada"):
        load_robot(path)


def test_mesh_scale_and_mirror_images(tmp_path: Path):
    """A negative scale keeps the outside outside."""
    cube = "\n".join(
        [f"v {x} {y} {z}" for x in (0, 1) for y in (0, 1) for z in (0, 1)]
        + ["f 1 2 4", "f 1 4 3", "f 5 7 8", "f 5 8 6", "f 1 5 6", "f 1 6 2",
           "f 3 4 8", "f 3 8 7", "f 1 3 7", "f 1 7 5", "f 2 6 8", "f 2 8 4"]
    )  # fmt: skip
    (tmp_path / "cube.obj").write_text(cube)
    mesh = '<mesh filename="cube.obj" scale="-0.001 0.002 0.003"/>'
    robot = load_robot(write(tmp_path, ARM.replace('<box size="0.2 0.2 0.1"/>', mesh)))
    assert robot.link("base").visual[0].surface.mesh.volume == pytest.approx(6e-9, rel=1e-4)


def test_limits_keep_their_digits(tmp_path: Path):
    """A position at a limit that single precision does not have is within it, also the one at rest."""
    text = ARM.replace('lower="-1" upper="1.5"', 'lower="999.7" upper="1000.1"')
    robot = load_robot(write(tmp_path, text))
    assert robot.limits[0].tolist() == [999.7, 1000.1] and robot.rest[0] == 999.7
    assert robot.positions({"shoulder": 1000.1}).tolist()[0] == 1000.1
    assert robot.positions(robot.rest.tolist()).tolist()[0] == 999.7


def test_an_inertial_without_origin_is_about_the_links_own(tmp_path: Path):
    """As the specification says; a link without <inertial> says nothing."""
    robot = load_robot(write(tmp_path, ARM.replace('<origin xyz="0 0 0.1"/></inertial>', "</inertial>")))
    assert robot.link("base").center_of_mass == (0, 0, 0) and robot.link("base").mass == 2
    assert robot.link("upper").center_of_mass is None


def test_what_worlds_do_not_keep_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Inertia tensors, and joints that follow others."""
    inertia = '<inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial>'
    load_robot(write(tmp_path, ARM.replace("</inertial>", inertia)))
    assert "inertia tensors are not kept" in caplog.text and "there other can move alone" in caplog.text


def test_flat_collision_meshes_are_no_parts(tmp_path: Path):
    """A triangle has no hull to collide with; the link keeps its surface."""
    (tmp_path / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    robot = load_robot(write(tmp_path, ARM.replace('<sphere radius="0.03"/>', '<mesh filename="flat.obj"/>')))
    shape = link_shape(robot.link("left"))
    assert shape is not None and shape.parts == () and len(shape.mesh.faces) == 1
