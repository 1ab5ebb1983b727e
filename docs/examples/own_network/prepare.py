"""Write what any user already has: a folder of images, one sub-folder per class, and a trained network's weights."""

from pathlib import Path

import numpy as np
import torch
from network import make_network
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

EPOCHS = 20
BATCH = 64
WHITE = 16.0  # of scikit-learn's digits


def main() -> None:
    """Write ``images/`` and ``weights.pth`` into the current folder."""
    digits = load_digits()
    pixels = []
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        picture = Image.fromarray((image / WHITE * 255).astype(np.uint8)).resize((32, 32)).convert("RGB")
        folder = Path("images") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{index:04}.png")
        pixels.append(np.array(picture))
    train(np.stack(pixels), digits.target)


def train(pixels: np.ndarray, labels: np.ndarray) -> None:
    """Train on every image and save a plain state dict."""
    torch.manual_seed(0)
    network = make_network().train()
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    y = torch.from_numpy(labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(network((x[batch] - 0.5) / 0.5), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    network.eval()
    accuracy = (network((x - 0.5) / 0.5).argmax(1) == y).float().mean()
    torch.save(network.state_dict(), "weights.pth")
    print(f"weights.pth: training accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
