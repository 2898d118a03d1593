"""Top-k lists: eligible items, long tables, re-ranking, and batches to files."""

from sklearn_recft.lists._make import ListOptions as ListOptions
from sklearn_recft.lists._make import frame_library as frame_library
from sklearn_recft.lists._make import recommend_lists as recommend_lists
