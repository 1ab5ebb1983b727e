"""The device side: the only folder shipped to a device. It needs numpy and one runtime, and sees no labels."""
