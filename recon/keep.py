"""The last step of a reconstruction: its Gaussians as a stored world, which later runs add revisions to."""

from pathlib import Path

from gaussworld.store import Store
from gaussworld.world import World

#: What this step calls its revisions; those of the user's edits have other names.
_OP = "reconstruct"


def keep_world(path: Path, world: World, title: str) -> str | None:
    """Store a world, or add it to the history of the one that an earlier run left.

    Edits of the user are never covered: where there are some, the new state gets a branch of its own.

    Returns:
        One sentence about that branch; None where the world simply stands at the new state.

    Raises:
        StoreError: the folder holds something else, is in use, or cannot be written.
    """
    details = {"input": title}
    if not path.exists():
        Store.create(path, world, op=_OP, details=details).close()
        return None
    with Store(path) as store:
        here = store.branch()
        head = store.revision(here.revision)
        untouched = head.op == _OP and here.tip == here.revision
        branch = here.name if untouched else _new_branch(store, here.revision)
        _, number = store.commit(
            world, store.read(head.id), parent=head.id, branch=branch, op=_OP, details=details
        )
    if untouched:
        return None
    return (
        f"{path} was edited since it was made: the new Gaussians are revision {number}, on branch {branch};"
        f" `gaussworld world checkout {path} {branch}` turns to it."
    )


def _new_branch(store: Store, revision: int) -> str:
    taken, number = {ref.name for ref in store.refs()}, 2
    while f"recon-{number}" in taken:
        number += 1
    store.add_ref("branch", f"recon-{number}", revision)
    return f"recon-{number}"
