"""Top-k lists: written to files in batches, and re-ranked."""

from sklearn_recft.lists._approximate import ApproximateLists
from sklearn_recft.lists._eligible import refuse_unknown as refuse_unknown
from sklearn_recft.lists._make import ListOptions as ListOptions
from sklearn_recft.lists._make import check_flag as check_flag
from sklearn_recft.lists._make import check_length as check_length
from sklearn_recft.lists._make import frame_library as frame_library
from sklearn_recft.lists._make import recommend_lists as recommend_lists
from sklearn_recft.lists._parquet import recommend_to_parquet
from sklearn_recft.lists._rerank import cap_per_category, rerank_mmr
from sklearn_recft.lists._shown import check_shown as check_shown
from sklearn_recft.lists._similar import similar_lists as similar_lists

__all__ = ["ApproximateLists", "cap_per_category", "recommend_to_parquet", "rerank_mmr"]
