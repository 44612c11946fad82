"""Settings of ``torch.compile``."""


def raise_recompile_limit(limit: int) -> None:
    """Raise torch's limit of compiled variants of a function, beyond which it is eager.

    All modules of a class share their functions: the blocks of a backbone exceed the
    default of 8.

    Args:
        limit: Least number of variants; a higher limit stays.
    """
    import torch._dynamo.config as settings  # noqa: PLC0415  takes half a second

    # torch 2.5 does not know their new names, such as recompile_limit.
    for name in ('cache_size_limit', 'accumulated_cache_size_limit'):
        setattr(settings, name, max(limit, getattr(settings, name)))
