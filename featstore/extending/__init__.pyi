from .class_editing import edit_classes as edit_classes
from .extension import METHODS as METHODS
from .extension import extend as extend
from .imagenet import imagenet_classes as imagenet_classes
from .importing import import_head as import_head
from .texts import import_text_head as import_text_head
