"""
Behaviour as text
=================

Does it help to tell a model what a user did before? Here everything is text: each rating of
MovieLens 100K is told as the user's last films, what the user thought of them and the film in
question, and a logistic regression over words and pairs of words judges whether four stars or
more follow. The first 80 % of the time line are learned from, the last 10 % judged.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from sklearn_recft.datasets import fetch_movielens, make_interactions
from sklearn_recft.preprocessing import BehaviorText

try:
    ratings = fetch_movielens("100k", download_if_missing=False, as_frame=True)
    texts = ratings.catalogue.set_index("item_id")["text"]
    X = ratings.data.assign(text=texts.loc[ratings.data["item_id"]].to_numpy())
    y = (ratings.target >= 4).to_numpy()
except OSError:  # no copy at hand
    X, y = make_interactions(300, 300, 20_000, random_state=0, return_X_y=True)
    X = pd.DataFrame(
        X, columns=["user_id", "item_id", "timestamp"]
    )  # items are called by their ids
    y = y >= np.median(y)

order = np.argsort(X["timestamp"].to_numpy(), kind="stable")
X, y = X.iloc[order], y[order].astype(int)
learned, judged = int(0.8 * len(y)), int(0.9 * len(y))

# %%
# A row
# -----

print(BehaviorText(max_history=2).fit_transform(X[:1000], y[:1000])[900])

# %%
# More history
# ------------
#
# Each row of the log is told as of its own time, so that test rows know what happened since
# training ended, as a model would that follows its users. Words of the film in question and words
# of the past must not be mixed up: each line has its own words, marked by what was thought of it.


def words_of(text):
    """Words of a row, each marked by the line it stands in: liked, disliked or now."""
    for line in text.split("; "):
        mark = line.split(" ", 1)[0].rstrip(":")
        yield from (f"{mark}_{word}" for word in line.split(": ", 1)[-1].lower().split())


lengths, scores = [1, 3, 10, 30], []
for max_history in lengths:
    told = BehaviorText(max_history=max_history).fit_transform(X, y)
    model = make_pipeline(
        TfidfVectorizer(analyzer=words_of, min_df=20, sublinear_tf=True),
        LogisticRegression(C=0.3, max_iter=200),
    )
    model.fit(told[:learned], y[:learned])
    probability = model.predict_proba(told[judged:])[:, 1]
    scores.append(roc_auc_score(y[judged:], probability))
    print(f"{max_history:3d} events: AUC {scores[-1]:.3f}")

# %%
# The picture
# -----------

figure, axes = plt.subplots()
axes.plot(lengths, scores, marker="o")
axes.set(xscale="log", xticks=lengths, xticklabels=lengths, xlabel="events told", ylabel="AUC")
axes.minorticks_off()

# %%
# What a user thought of the last few films says a good deal about the next one. Ten events say
# more than one; more than ten add little here, since a bag of words cannot tell which of them
# matter for the film in question, nor how long ago they were.
