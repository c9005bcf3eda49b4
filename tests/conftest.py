import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The machine's cores are shared by the test workers; several threads each would only wait for one another."""
    torch.set_num_threads(1)
