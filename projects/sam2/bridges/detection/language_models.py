"""Language models of GroundingDINO and GLIP, without downloads."""

from pathlib import Path

from mmengine.config import ConfigDict

from ...ops import import_optional

TRANSFORMERS = '"transformers>=4.56,<5"'
FETCH = (
    'fetch it with `hf download bert-base-uncased`, or give a folder with its '
    'config.json, vocab.txt and model.safetensors (language_model, --language-model)'
)


class LanguageModelError(FileNotFoundError):
    """The language model of a detector is not on this machine."""


def use_local_language_model(
    model_cfg: ConfigDict, folder: str | Path | None = None
) -> None:
    """Replace the name of a detector's language model by a folder on this machine.

    Transformers would ask the network for a name, and download what it does not have.

    Args:
        model_cfg: Config of the model of a detector; it is changed. One without a
            language model stays as it is.
        folder: Folder of the language model, or a name in Hugging Face's cache; None is
            the one that the config names.

    Raises:
        ImportError: If transformers is missing, or of a version that mmdetection does
            not work with.
        LanguageModelError: If the language model is not on this machine.
        ValueError: If there is a folder, but the detector has no language model.
    """
    language: ConfigDict | None = model_cfg.get('language_model')
    if language is None:
        if folder is not None:
            msg = f'it has no language model; leave {folder} out'
            raise ValueError(msg)
        return
    transformers = import_optional(
        'transformers',
        purpose='The language model of a detector',
        install=TRANSFORMERS,
    )
    if int(transformers.__version__.partition('.')[0]) > 4:
        msg = (
            f'mmdetection needs version 4 of transformers, and '
            f'{transformers.__version__} is installed: pip install {TRANSFORMERS}'
        )
        raise ImportError(msg)
    name = str(folder or language.name)
    path = Path(name).expanduser()
    local = str(path) if path.is_dir() else _cached_language_model(name, folder)
    if not (Path(local) / 'config.json').is_file():
        msg = f'{local} holds no language model, since it has no config.json; {FETCH}'
        raise LanguageModelError(msg)
    language.name = local
    if 'lang_model_name' in model_cfg.get('bbox_head', {}):  # of GLIP
        model_cfg.bbox_head.update(lang_model_name=local)


def _cached_language_model(name: str, folder: str | Path | None) -> str:
    """Folder of a language model in Hugging Face's cache.

    Args:
        folder: What the user gave; None for the name in the config.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415  with transformers

    try:
        # It returns the folder in the cache, and does not ask the network.
        return str(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as error:
        where = 'not on this machine' if folder is None else 'no folder'
        msg = f'the language model {name} of the detector is {where}; {FETCH}'
        raise LanguageModelError(msg) from error
