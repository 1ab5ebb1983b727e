"""The device side: the one folder that is shipped to a device. It needs numpy and one runtime, and knows no labels."""
