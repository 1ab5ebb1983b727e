"""Small networks whose activations have sensible ranges without training, and the runtimes to ask what a file gives."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from backends.device.artifact import QuantSpec
from exporters.export import export
from exporters.victim import Victim
from harness.networks.architectures import build
from harness.networks.victims import Normalised

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels(n: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Smooth random images, uint8 ``(n, size, size, 3)``."""
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def as_input(x: np.ndarray) -> Tensor:
    return torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def victim(name: str = "small", size: int = 16, classes: int = 10) -> Victim:
    return Victim(name, name, Path("unused"), "", classes, (size, size), MEAN, STD)


def settled(network: nn.Module, images: np.ndarray) -> nn.Module:
    """The network with the statistics of its batch normalisations taken from images, in evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    network.train()
    with torch.no_grad():
        network(as_input(images))
    return network.eval()


def resnet(size: int = 16) -> nn.Module:
    """A ResNet-8 with option-A shortcuts, behind its normalisation."""
    torch.manual_seed(0)
    return settled(Normalised(build("resnet8", 10, 0), MEAN, STD), pixels(64, size))


class Branches(nn.Module):
    """What SqueezeNet and MobileNet add: padded max pooling, ReLU6, depthwise convolution, parts joined, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU6())
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.left = nn.Conv2d(8, 8, 1)
        self.right = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Sequential(nn.Dropout(), nn.Conv2d(16, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        joined = torch.cat([functional.relu(self.left(x)), functional.relu(self.right(x))], 1)
        return self.head(joined)


def branches() -> nn.Module:
    torch.manual_seed(0)
    return settled(Normalised(Branches(), MEAN, STD), pixels(64))


class Around(nn.Module):
    """Any function between a convolution and a linear layer."""

    def __init__(self, function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.function, self.linear = nn.Conv2d(3, 8, 3, 2, 1), function, nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.function(self.convolution(x)).mean((2, 3)))


def torch_logits(network: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return torch.cat([network(as_input(part)) for part in np.array_split(x, -(-len(x) // 100))]).numpy()


def file_logits(path: Path, x: np.ndarray) -> np.ndarray:
    """What onnxruntime or LiteRT makes of pixels, as reals."""
    return _onnxruntime(path, x) if path.suffix == ".onnx" else _litert(path, x)


def _onnxruntime(path: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    parts = np.array_split(as_input(x).numpy(), -(-len(x) // 100))
    return np.concatenate([session.run(None, {"pixels": part})[0] for part in parts])


def _litert(path: Path, x: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for image in x.astype(np.float32) / np.float32(255):
        if entry["dtype"] != np.float32:
            scale, zero_point = entry["quantization"]
            image = np.clip(np.rint(image / scale) + zero_point, -128, 127).astype(entry["dtype"])
        interpreter.set_tensor(entry["index"], image[None])
        interpreter.invoke()
        scale, zero_point = end["quantization"] if end["dtype"] != np.float32 else (1, 0)
        rows.append((interpreter.get_tensor(end["index"])[0].astype(np.float32) - zero_point) * np.float32(scale))
    return np.array(rows)


SPEC = QuantSpec(calibration_images=16)
FORMATS = ("onnx", "tflite")
CALIBRATIONS = ("minmax", "moving_average", "percentile", "entropy")
PIXELS = pixels(48)


def write(folder: Path, network: nn.Module, format: str, quant: QuantSpec | None = SPEC, **changes) -> Path:
    """Exports as ``net``, with the images above unless told otherwise; the file."""
    arguments = {"name": "net", "victim": victim(), "calibration_pixels": PIXELS} | changes
    return folder / export(network, format=format, quant=quant, folder=folder, **arguments).file
