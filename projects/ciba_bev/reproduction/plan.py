"""Which trainings a result takes, in which order, worked out from the configs themselves.

A distillation config names the configs of its teacher and bottleneck, and a bottleneck config those
of its teacher and student. Every one is run once for each seed, with the earlier runs of that seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Sequence

from mmengine.config import Config

from ..engine.step_runner import Step

BEST_CHECKPOINT = 'best.pth'
SCORES = 'metrics.json'


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        config: Name of the config, without folder and ending.
        seed: Of weights, data order and noise.
        size: Bottleneck size H, where the config's own is not wanted.
    """

    config: str
    seed: int
    size: int | None = None

    @property
    def name(self) -> str:
        """What its folder and its records are called."""
        size = '' if self.size is None else f'_h{self.size}'
        return f'{self.config}{size}_seed{self.seed}'


@dataclass
class Plan:
    """The steps of any number of runs, each once, those that others wait for first.

    Attributes:
        root: The project's folder, which holds ``configs`` and ``tools``.
        work_dir: Under which every run has its folder.
        options: ``key=value`` overrides of every config of a data set, by the prefix of its name;
            an override is left out of configs that do not have its key.
        processes: Processes (GPUs) of one training.
        first_steps: By the same prefix, steps that come before all trainings of that data set.
        label: Put before the names of the trainings' steps, so that the steps of plans with other
            data can be joined; such plans need a ``work_dir`` each.
        frozen_seed: Seed of the models that others are trained with; that of the other where None.
        elsewhere: By the name of a config, the plan that trains it, where that is not this one.
    """

    root: Path
    work_dir: Path
    options: dict[str, list[str]] = field(default_factory=dict)
    processes: int = 1
    first_steps: dict[str, Step] = field(default_factory=dict)
    label: str = ''
    frozen_seed: int | None = None
    elsewhere: dict[str, Plan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._steps: dict[str, Step] = {}
        self._configs: dict[str, Config] = {}

    @property
    def steps(self) -> list[Step]:
        """What has been planned so far, in an order that respects what comes first."""
        return list(self._steps.values())

    def read(self, config: str) -> Config:
        """A config by its name, read once."""
        if config not in self._configs:
            self._configs[config] = Config.fromfile(str(self.root / 'configs' / f'{config}.py'))
        return self._configs[config]

    def folder(self, run: Run) -> Path:
        """Where a run writes."""
        return self.work_dir / run.name

    def step_name(self, run: Run) -> str:
        """What the step of a run is called, which later steps wait for."""
        return f'{self.label}{run.name}'

    def checkpoint(self, run: Run) -> Path:
        """What later runs start from: the best epoch, or the last where none is chosen."""
        cfg = self.read(run.config)
        if _chooses_best(cfg):
            return self.folder(run) / BEST_CHECKPOINT
        return self.folder(run) / f'epoch_{self._epochs(run.config)}.pth'

    def trained_config(self, run: Run) -> Path:
        """The config of a run with all overrides, which training writes into its folder."""
        return self.folder(run) / f'{run.config}.py'

    def add(self, run: Run) -> Run:
        """Plan a run and all that it needs.

        Args:
            run: The training.

        Returns:
            The same run.
        """
        name = self.step_name(run)
        if name in self._steps:
            return run
        cfg = self.read(run.config)
        after, options = [], [f'randomness.seed={run.seed}', *self.options_of(run.config)]
        dataset = self._dataset_of(run.config)
        if dataset in self.first_steps:
            first = self.first_steps[dataset]
            self._steps.setdefault(first.name, first)
            after.append(first.name)
        for role in ('teacher', 'student', 'bottleneck'):
            part = cfg.model.get(role)
            # A distiller's student is a model; a path to a config makes it an earlier run.
            if not part or 'checkpoint' not in part:
                continue
            earlier_config = Path(part.config).stem
            plan = self.elsewhere.get(earlier_config, self)
            seed = run.seed if self.frozen_seed is None else self.frozen_seed
            earlier = plan.add(Run(earlier_config, seed))
            after.append(plan.step_name(earlier))
            # As it was trained, with all its overrides.
            options.append(f'model.{role}.config={plan.trained_config(earlier)}')
            options.append(f'model.{role}.checkpoint={plan.checkpoint(earlier)}')
        outputs = [self.checkpoint(run)]
        if run.size is not None:
            options.append(f'model.bottleneck.size={run.size}')
        if 'bottleneck_sizes' in cfg.model:
            spectra = self.folder(run) / 'bottlenecks.json'
            options += [f'model.seed={run.seed}', f'val_evaluator.out_file={spectra}']
            outputs.append(spectra)
        elif _chooses_best(cfg):
            outputs.append(self.folder(run) / SCORES)
        self._steps[name] = Step(
            name,
            f'Train {name}',
            self._command(run, options),
            outputs,
            after=after,
            config=f'configs/{run.config}.py',
            folder=self.folder(run),
            resumes=True,
        )
        return run

    def add_score(self, run: Run, plain_config: str) -> Path:
        """Plan the scoring of a detector's last epoch.

        Args:
            run: Its training.
            plain_config: Name of the config it is scored with.

        Returns:
            The file that will hold its metrics.
        """
        self.add(run)
        scores = self.folder(run) / SCORES
        name = f'score_{self.step_name(run)}'
        config = f'configs/{plain_config}.py'
        command = [*self._launch('tools/test.py'), config, str(self.checkpoint(run))]
        command += ['--work-dir', str(self.folder(run)), '--out', str(scores)]
        options = self.options_of(plain_config)
        command += ['--cfg-options', *options] if options else []
        self._steps[name] = Step(
            name,
            f'Score {self.step_name(run)}',
            [*command, *self._launcher()],
            [scores],
            after=[self.step_name(run)],
            config=config,
        )
        return scores

    def add_step(self, step: Step) -> None:
        """Plan a step that is no training; those it waits for are planned already."""
        self._steps[step.name] = step

    def _command(self, run: Run, options: Sequence[str]) -> list[str]:
        return [
            *self._launch('tools/train.py'),
            f'configs/{run.config}.py',
            '--work-dir',
            str(self.folder(run)),
            '--cfg-options',
            *options,
            *self._launcher(),
        ]

    def _launch(self, tool: str) -> list[str]:
        if self.processes == 1:
            return [tool]
        return ['-m', 'torch.distributed.run', f'--nproc_per_node={self.processes}', tool]

    def _launcher(self) -> list[str]:
        return [] if self.processes == 1 else ['--launcher', 'pytorch']

    def _dataset_of(self, config: str) -> str | None:
        names = {*self.options, *self.first_steps}
        return next((name for name in names if config.startswith(name)), None)

    def options_of(self, config: str) -> list[str]:
        """The overrides that a config gets beside those of its run."""
        dataset = self._dataset_of(config)
        chosen = self.options.get(dataset, [])
        cfg = self.read(config)
        return [option for option in chosen if _has(cfg, option.split('=', 1)[0])]

    def _epochs(self, config: str) -> int:
        for option in self.options_of(config):
            if option.startswith('train_cfg.max_epochs='):
                return int(option.split('=', 1)[1])
        return self.read(config).train_cfg.max_epochs


def _chooses_best(cfg: Config) -> bool:
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    keepers = ('ciba_bev.BestEpochHook', 'ciba_bev.BestBottleneckHook')
    return any(hook.type in keepers for hook in hooks if hook)


def _has(cfg: Config, key: str) -> bool:
    """Whether a config has a dotted key, list indices included, or what it says to replace."""
    value = cfg
    for part in key.removesuffix('._delete_').split('.'):
        if isinstance(value, (list, tuple)):
            if not part.isdigit() or int(part) >= len(value):
                return False
            value = value[int(part)]
        elif hasattr(value, 'get') and part in value:
            value = value[part]
        else:
            return False
    return True
