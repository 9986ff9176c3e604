"""What the tests of training share."""

import pytest

from bnjax.data import synthetic


@pytest.fixture(scope="module")
def data():
    """Two batches of 16 images, and some to test on."""
    return synthetic.generate(train=32, test=20)
