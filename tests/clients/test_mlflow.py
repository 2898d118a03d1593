"""What the guide says of MLflow's own record of a fit."""

import pytest
from sklearn.model_selection import GridSearchCV

from sklearn_recft import BiasRecommender
from sklearn_recft.model_selection import TemporalSplit
from tests.contract.helpers import make_log

mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")


@pytest.mark.filterwarnings("default")  # those of the tool are for the tool
def test_autolog_records_a_search_but_not_a_plain_fit(tmp_path, monkeypatch):
    pytest.importorskip("mlflow.sklearn")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/runs")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    search = GridSearchCV(BiasRecommender(), {"damping": [1.0, 2.0]}, cv=TemporalSplit(2))
    mlflow.sklearn.autolog(log_models=False, log_datasets=False)
    try:
        assert _params_of(BiasRecommender()) == {}
        assert "best_damping" in _params_of(search)
    finally:
        mlflow.sklearn.autolog(disable=True)


def _params_of(estimator):
    with mlflow.start_run() as run:
        estimator.fit(*make_log())
    return mlflow.get_run(run.info.run_id).data.params
