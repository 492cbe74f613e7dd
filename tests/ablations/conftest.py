"""What tests of runs and of studies share: where records and packed data lie."""

import pytest


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders for run records and packed data that the tests of this module share."""
    folder = tmp_path_factory.mktemp("ablations")
    return [f"runs={folder / 'runs'}", f"cache={folder / 'data'}"]
