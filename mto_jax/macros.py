# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The macros of the gin files that come along: what each means, and which a verb has."""

from mto_jax import config

MEANINGS = {
    "ADAPTERS": "what is trained on the frozen model, such as @LoRA() or [@LoRA(), @IA3()]",
    "ASKED": "the tasks that a tuned checkpoint is asked about",
    "BATCH_SIZE": "rows of a step, or inputs that are decoded at once",
    "CORPUS": "the sentences to adapt on: a text file or folder, 'demo', a name of text_corpora",
    "DEVICE": "what the training runs on: cpu, h100 or v5e",
    "DROPOUT_RATE": "of the model in training",
    "EPOCHS": "times that every pair is seen",
    "EVAL_PERIOD": "steps between evaluations",
    "GROUPS": "what tells Mask-Filling from Map-Phrasal pairs: classifier or length",
    "HEADS": "heads to evaluate on, always the same; None takes all",
    "INITIAL_CHECKPOINT_PATH": "the checkpoint to start from: a run, hf://org/name, a folder of "
    "Hugging Face or T5X",
    "KEEP": "tasks that must not be forgotten",
    "LEARNING_RATE": "the highest rate of the optimizer",
    "LEARNING_RATES": "rates to try; None takes the optimizer's",
    "LOSSES": "tasks of which the loss of all models is taken, such as those of pre-training",
    "LORA_RANK": "the rank of each LoRA",
    "MEMORY_GB": "the most memory of a training",
    "METHOD": "how sentences become pairs: splitter, spans or phrases",
    "MINUTES": "the most minutes of a training",
    "MIXTURE_OR_TASK_MODULE": "module(s) that register tasks of your own, comma-separated",
    "MIXTURE_OR_TASK_NAME": "a task of SeqIO: TASK_TEMPLATE, CORPUS_OBJECTIVE, or a mixture",
    "MODELS": "{name: checkpoint} of the axis 'model'",
    "MODEL_DIR": "the run directory: written in training, read by other verbs, which also take any "
    "other checkpoint",
    "OBJECTIVE": "to adapt under: none, lm, denoising, mixed, ...; None is that of the mapping",
    "OBJECTIVES": "the objectives that compete",
    "OUTPUT_DIR": "the folder for results",
    "PROBE_SHOTS": "the most training heads that strategies are compared at",
    "PROMPT_LENGTH": "soft tokens of a prompt",
    "RECALL": "ask all models for the facts of all tasks, as sentences of a text",
    "REFERENCES": "most references of a head to evaluate on; None takes all",
    "REPLAY": "a pre-training task to mix in against forgetting",
    "REPLAY_SHARE": "its part of the examples",
    "REPLAY_SHARES": "the shares that are tried",
    "RUN": "the run whose checkpoints are tuned",
    "SEARCH": "how the splitter decodes: generate or suffix",
    "SEEDS": "of the heads that are drawn and of training, a result for each",
    "SHOTS": "training heads",
    "SPLIT": "of the data set: train, validation or test",
    "STAGES_DIR": "where adapted models and adapters are kept for other grids",
    "STEPS": "the steps whose checkpoints are tuned: a list, or log:8",
    "STRATEGIES": "that compete; None takes all",
    "TASK": "a data set, without a template",
    "TASKS": "data sets, without a template",
    "TASKS_SERVED": "tasks that one model serves",
    "TASK_FEATURE_LENGTHS": "most tokens of inputs and targets; longer ones are cut",
    "TEMPLATE": "such as MaskedPrompting: mto list templates",
    "TEMPLATES": "such as MaskedPrompting: mto list templates",
    "TEST_HEADS": "heads to test on; None takes all",
    "TRAIN_STEPS": "the step to train up to",
    "VOCABULARY": "a SentencePiece file, tokenizer.json, folder, or t5; None is that of the model",
}
_TRAINING = ("runs/finetune.gin", "runs/pretrain.gin")
_FILES = {
    "train": _TRAINING,
    "prepare": _TRAINING,
    "tune": ("runs/tune.gin", "runs/prompt_tune.gin", "runs/lora.gin"),
    "tables": ("tables/grid.gin",),
}


def of(verb: str) -> dict[str, str]:
    """Returns the meaning of each macro of a verb's gin files, with the defaults in them."""
    files = _FILES.get(verb, (f"runs/{verb}.gin",))
    defaults: dict[str, dict[str, None]] = {}
    for file in files if set(files) <= {*config.bundled()} else ():
        for name, value in config.recorded(config.gin_directory() / file).items():
            if name in MEANINGS:
                shown = "required" if value == "%gin.REQUIRED" else f"default {value!r}"
                defaults.setdefault(name, {})[shown] = None
    return {
        name: f"{MEANINGS[name]} ({' or '.join(shown)})" for name, shown in sorted(defaults.items())
    }


def described(verb: str) -> list[str]:
    """Returns the lines of a help text about the macros of a verb; none for one without."""
    lines = [f"  {name:<24} {meaning}" for name, meaning in of(verb).items()]
    return ["macros (bind with --gin.NAME=VALUE):", *lines, ""] if lines else []
