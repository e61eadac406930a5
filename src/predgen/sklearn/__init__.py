"""PredGen as scikit-learn estimators: in pipelines, grid searches, cross-validation.

from predgen.sklearn import PredGenClassifier

moods = PredGenClassifier(epochs=2).fit(texts, labels)
moods.predict_proba(["I would buy it again."])
"""

from predgen.sklearn.estimators import PredGenClassifier, PredGenRegressor

__all__ = ["PredGenClassifier", "PredGenRegressor"]
