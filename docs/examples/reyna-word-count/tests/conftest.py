pytest_plugins = ["reyna.testing.fixtures"]
