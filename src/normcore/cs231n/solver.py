"""Training with validation, under the name of ``cs231n.solver``."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from normcore._atomic import write_atomically
from normcore._checks import check_flag, check_integer, check_number
from normcore.cs231n import optim
from normcore.cs231n._arrays import Array

__all__ = ["Solver"]


class Solver:
    """Trains a model on minibatches, and ends with the parameters that were best on the validation set.

    Minibatches are drawn with replacement by ``numpy.random.choice``. Accuracies are measured after the first iteration
    and at the end of each epoch.

    Parameters
    ----------
    model : object
        With a dict ``params`` of arrays, and ``loss(X, y)``, which gives the loss and a dict of gradients with the same
        keys, ``loss(X)``, which gives scores (N, C): a network of `normcore.cs231n.classifiers.fc_net`, or your own.
    data : dict
        Arrays ``X_train``, ``y_train``, ``X_val``, ``y_val``.
    update_rule : str
        Name of a function of `normcore.cs231n.optim`.
    optim_config : dict
        Its ``config``; each array of parameters gets a copy.
    lr_decay : float
        The learning rate is multiplied by it after each epoch.
    batch_size, num_epochs : int
    num_train_samples, num_val_samples : int or None
        Accuracies are measured on as many rows, drawn with replacement; on all rows for None, and where there are no
        more.
    checkpoint_name : str, optional
        Whenever accuracies are measured, pickle the solver's state and the model to
        ``<checkpoint_name>_epoch_<number>.pkl``.
    print_every : int
        Print the loss of every so many iterations.
    verbose : bool
        Whether to print at all.

    Attributes
    ----------
    loss_history : list of float
        Of each iteration.
    train_acc_history, val_acc_history : list of float
        After the first iteration, and at the end of each epoch.
    best_val_acc, best_params, epoch, optim_configs
        ``optim_configs`` has the config of each array of parameters by its name.

    Raises
    ------
    ValueError
        An argument or update rule that there is not, or a value out of range.

    Examples
    --------
    >>> from normcore.cs231n.classifiers.fc_net import FullyConnectedNet
    >>> from normcore.cs231n.solver import Solver
    >>> np.random.seed(0)
    >>> X = np.random.randn(200, 2)
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> data = {"X_train": X[:100], "y_train": y[:100], "X_val": X[100:], "y_val": y[100:]}
    >>> net = FullyConnectedNet([20, 20], input_dim=2, num_classes=2, weight_scale=0.5, normalization="batchnorm")
    >>> config = {"learning_rate": 1e-2}
    >>> solver = Solver(net, data, update_rule="adam", optim_config=config, batch_size=50, num_epochs=20, verbose=False)
    >>> solver.train()
    >>> solver.best_val_acc > 0.85, len(solver.loss_history), len(solver.val_acc_history)
    (True, 40, 21)
    """

    optim: ClassVar[Any] = optim
    """The module in which update rules are looked up."""

    def __init__(
        self,
        model: Any,
        data: Mapping[str, Any],
        *,
        update_rule: str = "sgd",
        optim_config: Mapping[str, Any] | None = None,
        lr_decay: float = 1.0,
        batch_size: int = 100,
        num_epochs: int = 10,
        num_train_samples: int | None = 1000,
        num_val_samples: int | None = None,
        checkpoint_name: str | None = None,
        print_every: int = 10,
        verbose: bool = True,
        **unknown: object,
    ) -> None:
        if unknown:
            raise ValueError(f"Solver: there is no argument {', '.join(unknown)}")
        lacking = [name for name in ("X_train", "y_train", "X_val", "y_val") if name not in data]
        if lacking:
            raise ValueError(f"Solver: data lacks {', '.join(lacking)}")
        self.model = model
        self.X_train, self.y_train = data["X_train"], data["y_train"]
        self.X_val, self.y_val = data["X_val"], data["y_val"]
        self._check_data()
        names = getattr(self.optim, "__all__", [name for name in vars(self.optim) if not name.startswith("_")])
        rules = [name for name in names if inspect.isfunction(getattr(self.optim, name))]
        if update_rule not in rules:
            raise ValueError(
                f"Solver: update_rule is {update_rule!r}; {self.optim.__name__} has {', '.join(sorted(rules))}"
            )
        self.update_rule = getattr(self.optim, update_rule)
        self.optim_config = dict(optim_config or {})
        self.lr_decay = check_number(lr_decay, "Solver", "lr_decay")
        self.batch_size = check_integer(batch_size, "Solver", "batch_size", 1)
        self.num_epochs = check_integer(num_epochs, "Solver", "num_epochs", 0)
        self.num_train_samples = _count(num_train_samples, "num_train_samples")
        self.num_val_samples = _count(num_val_samples, "num_val_samples")
        self.checkpoint_name = checkpoint_name
        self.print_every = check_integer(print_every, "Solver", "print_every", 1)
        self.verbose = check_flag(verbose, "Solver", "verbose")

        self.epoch = 0
        self.best_val_acc = 0.0
        self.best_params: dict[str, Array] = {}
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []
        self.optim_configs: dict[str, dict[str, Any]] = {name: dict(self.optim_config) for name in model.params}

    def train(self) -> None:
        """Train for `num_epochs` epochs."""
        iterations_per_epoch = max(len(self.X_train) // self.batch_size, 1)
        iterations = self.num_epochs * iterations_per_epoch
        for t in range(iterations):
            self._step()
            if self.verbose and t % self.print_every == 0:
                print(f"(Iteration {t + 1} / {iterations}) loss: {self.loss_history[-1]:f}")
            ends_epoch = (t + 1) % iterations_per_epoch == 0
            if ends_epoch:
                self.epoch += 1
                for config in self.optim_configs.values():
                    if "learning_rate" in config:
                        config["learning_rate"] *= self.lr_decay
            if t == 0 or ends_epoch:
                self._measure()
        if self.best_params:
            self.model.params = self.best_params

    def check_accuracy(
        self, X: ArrayLike, y: ArrayLike, num_samples: int | None = None, batch_size: int = 100
    ) -> float:
        """The share of rows of `X` whose greatest score is that of their label in `y`.

        On `num_samples` rows drawn with replacement, if there are more; `batch_size` rows go through the model at once.
        """
        rows, labels = np.asarray(X), np.asarray(y)
        if num_samples is not None and len(rows) > num_samples:
            drawn = np.random.choice(len(rows), num_samples)
            rows, labels = rows[drawn], labels[drawn]
        starts = range(0, len(rows), batch_size)
        predicted = [np.argmax(self.model.loss(rows[start : start + batch_size]), axis=1) for start in starts]
        return float(np.mean(np.concatenate(predicted) == labels))

    def _check_data(self) -> None:
        for part in ("train", "val"):
            rows, labels = len(getattr(self, f"X_{part}")), len(getattr(self, f"y_{part}"))
            if rows != labels:
                raise ValueError(f"Solver: X_{part} has {rows} rows, but y_{part} has {labels} labels")
            if rows == 0:
                raise ValueError(f"Solver: X_{part} has no rows")

    def _step(self) -> None:
        drawn = np.random.choice(len(self.X_train), self.batch_size)
        loss, grads = self.model.loss(self.X_train[drawn], self.y_train[drawn])
        self.loss_history.append(loss)
        for name, w in self.model.params.items():
            self.model.params[name], self.optim_configs[name] = self.update_rule(
                w, grads[name], self.optim_configs[name]
            )

    def _measure(self) -> None:
        train = self.check_accuracy(self.X_train, self.y_train, self.num_train_samples)
        val = self.check_accuracy(self.X_val, self.y_val, self.num_val_samples)
        self.train_acc_history.append(train)
        self.val_acc_history.append(val)
        self._save_checkpoint()
        if self.verbose:
            print(f"(Epoch {self.epoch} / {self.num_epochs}) train acc: {train:f}; val_acc: {val:f}")
        if val > self.best_val_acc:
            self.best_val_acc = val
            self.best_params = {name: np.array(w) for name, w in self.model.params.items()}

    def _save_checkpoint(self) -> None:
        if self.checkpoint_name is None:
            return
        settings = ("model", "lr_decay", "optim_config", "batch_size", "num_train_samples", "num_val_samples")
        curves = ("epoch", "loss_history", "train_acc_history", "val_acc_history")
        state = {name: getattr(self, name) for name in (*settings, *curves)}
        state["update_rule"] = self.update_rule.__name__
        write_atomically(f"{self.checkpoint_name}_epoch_{self.epoch}.pkl", pickle.dumps(state))


def _count(value: int | None, name: str) -> int | None:
    return None if value is None else check_integer(value, "Solver", name, 1)
