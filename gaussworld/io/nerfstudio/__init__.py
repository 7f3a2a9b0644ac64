"""nerfstudio: runs of splatfacto become worlds, and runs, captures and worlds become its datasets."""

from .dataset import SavedDataset, save_dataset
from .run import RunFiles, find_run, load_run, read_gaussians

__all__ = ["RunFiles", "SavedDataset", "find_run", "load_run", "read_gaussians", "save_dataset"]
