"""Flower's ClientApp, as in its PyTorch quickstart: load, train with torch.optim.SGD, reply.

A module of its own, so that Ray's workers import it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from benchmark_simulation_peers.problem import Cnn, read_problem
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.utils.data import DataLoader, TensorDataset

client_app = ClientApp()


@client_app.train()  # type: ignore[untyped-decorator]
def train(message: Message, _context: Context) -> Message:
    """One client's local epoch."""
    config = message.content["config"]
    problem = read_problem(str(config["folder"]))
    folder, number = Path(problem.folder), int(config["client"])
    order = np.load(folder / "orders.npy", mmap_mode="r")[number]
    images = torch.from_numpy(np.load(folder / "images.npy", mmap_mode="r")[number][order])
    labels = torch.from_numpy(np.load(folder / "labels.npy", mmap_mode="r")[number][order])
    loader = DataLoader(TensorDataset(images, labels), batch_size=problem.batch_size)
    module = Cnn(problem.classes, problem.size)
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(module.parameters(), lr=problem.learning_rate)
    criterion = torch.nn.CrossEntropyLoss()
    total = 0.0
    for batch, target in loader:
        optimizer.zero_grad()
        loss = criterion(module(batch), target)
        loss.backward()
        optimizer.step()
        total += loss.item()
    metrics = MetricRecord({"train_loss": total / len(loader), "num-examples": len(labels)})
    return Message(
        content=RecordDict({"arrays": ArrayRecord(module.state_dict()), "metrics": metrics}), reply_to=message
    )
