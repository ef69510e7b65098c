"""What puts a trainer back to its start."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from guidelines_core.verl_adapter.reconfigure import restore_start, save_start


def test_weights_rates_and_moments_go_back_to_the_start() -> None:
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    engine = SimpleNamespace(module=module, optimizer=optimizer, lr_scheduler=scheduler)
    config = SimpleNamespace(max_token_len_per_gpu=1, micro_batch_size_per_gpu=1)
    inner = SimpleNamespace(actor=SimpleNamespace(engine=engine, engine_config=config), ref=None)
    worker = SimpleNamespace(worker_dict={"actor": inner})
    before = [parameter.detach().clone() for parameter in module.parameters()]
    data = torch.ones(4, 3)

    def train() -> list[torch.Tensor]:
        for _ in range(3):
            module(data).square().sum().backward()
            optimizer.step()
            scheduler.step()
        return [parameter.detach().clone() for parameter in module.parameters()]

    save_start(worker)
    first = train()
    assert not torch.equal(before[0], first[0])
    restore_start(worker, {"actor": {"max_token_len_per_gpu": 7}, "ref": {"max_token_len_per_gpu": 9}})
    assert all(torch.equal(one, other) for one, other in zip(before, module.parameters(), strict=True))
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert config.max_token_len_per_gpu == 7
    second = train()
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
