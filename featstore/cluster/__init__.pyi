from .collecting import collect as collect
from .shard_extractor import ShardExtractor as ShardExtractor
