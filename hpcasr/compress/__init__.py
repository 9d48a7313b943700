"""Compression of what learners send, looked up by the name that `--compress` takes."""

from importlib import import_module

CODECS = {'fp16': 'Fp16', 'bf16': 'Bf16', 'onebit': 'OneBit', 'qsgd': 'Qsgd', 'topk': 'TopK',
          'threshold': 'Threshold'}
TOGETHER = {'powersgd': 'PowerSgd'}  # what one learner's message says is known only when all have spoken


def get_codec(options, ops):
    """The codec.Codec of a config.Compress, computing on the backend `ops`."""
    name = (CODECS | TOGETHER)[options.method]
    return getattr(import_module(f'hpcasr.compress.{options.method}'), name)(ops, options)
