"""What a grid would take on a named GPU: memory from shapes, hours from counted operations."""

from dataclasses import dataclass

from predgen.errors import unknown_name

GIBIBYTE = 2**30
# The share of a GPU's peak that training and prediction are taken to reach; an assumption, not a measurement.
USED = 0.4
# Operations for each weight and token: a product and a sum forward; twice that backward, for states and for weights.
FORWARD, STATES_BACKWARD, WEIGHTS_BACKWARD = 2, 2, 2


@dataclass(frozen=True)
class Gpu:
    """A GPU as its vendor describes it.

    Attributes:
        memory_bytes: its memory.
        flops: dense 16-bit matrix operations per second, at most.
    """

    memory_bytes: int
    flops: float


# Memory in GiB and the dense peak of 16-bit products, from the vendor's data sheets.
GPUS = {
    name: Gpu(memory * GIBIBYTE, teraflops * 1e12)
    for name, memory, teraflops in (
        ("T4", 16, 65),
        ("V100", 32, 125),
        ("RTX3090", 24, 71),
        ("RTX4090", 24, 165),
        ("L4", 24, 121),
        ("L40S", 48, 362),
        ("A100-40GB", 40, 312),
        ("A100", 80, 312),
        ("H100", 80, 989),
        ("H200", 141, 989),
    )
}


def gpu_named(name: str) -> Gpu:
    """Returns a GPU of the list.

    Raises:
        UnknownNameError: it is not there.
    """
    if name not in GPUS:
        raise unknown_name("GPU", name, GPUS)
    return GPUS[name]


@dataclass(frozen=True)
class Work:
    """What one cell computes.

    Attributes:
        parameters: of the whole model that every token passes.
        all_trained: whether gradients are computed for all weights, or for a small update alone.
        train_rows: rows of an epoch.
        test_rows: rows that are predicted, validations included.
        epochs: passes over the training rows.
        prompt_tokens: of a row, on average.
        target_tokens: of a row; 0 for a method that does not write.
        passes: sampling passes over the target, each a forward.
    """

    parameters: int
    all_trained: bool
    train_rows: int
    test_rows: int
    epochs: float
    prompt_tokens: float
    target_tokens: int
    passes: int

    @property
    def operations(self) -> float:
        """Floating-point operations, attention's own products left out."""
        step = FORWARD + STATES_BACKWARD + (WEIGHTS_BACKWARD if self.all_trained else 0)
        trained = step * (self.prompt_tokens + self.target_tokens) + FORWARD * self.passes * self.target_tokens
        predicted = FORWARD * (self.prompt_tokens + self.target_tokens)
        return self.parameters * (self.epochs * self.train_rows * trained + self.test_rows * predicted)

    def hours(self, gpu: Gpu) -> float:
        """Returns the hours that it takes where `USED` of a GPU's peak is reached."""
        return self.operations / (USED * gpu.flops) / 3600
