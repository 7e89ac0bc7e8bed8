from .queue import ReviewItem as ReviewItem
from .queue import ReviewQueue as ReviewQueue
from .queue import review_queue as review_queue
from .serving import review as review
from .session import ReviewSession as ReviewSession
