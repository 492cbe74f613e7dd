import pytest
from study_runs import painted_runs


@pytest.fixture(scope="package")
def runs(tmp_path_factory, fabricator):
    """Two run directories, alder and birch."""
    return painted_runs(tmp_path_factory.mktemp("study"), fabricator)
