"""What a world will look like if tools do this: states, a 4D world, a video and a summary."""

from .predict import PredictConfig, Prediction, predict, predicting

__all__ = ["PredictConfig", "Prediction", "predict", "predicting"]
