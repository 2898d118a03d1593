"""
Behavior as text
================

This example measures how much a user's history helps a text classifier. Each rating of MovieLens
100K becomes a text: the user's last films, whether the user liked them, and the film to predict.
A logistic regression on words predicts whether the rating is four stars or more. It is trained on
the earliest 80 % of the ratings and evaluated on the latest 10 %.
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
    X = pd.DataFrame(X, columns=["user_id", "item_id", "timestamp"])  # texts are the ids
    y = y >= np.median(y)

order = np.argsort(X["timestamp"].to_numpy(), kind="stable")
X, y = X.iloc[order], y[order].astype(int)
train_end, test_start = int(0.8 * len(y)), int(0.9 * len(y))

# %%
# The text of a row
# -----------------

print(BehaviorText(max_history=2).fit_transform(X[:1000], y[:1000])[900])

# %%
# More history
# ------------
#
# Each text is as of the row's own time. So test rows use events after the end of training, as a
# model does that is updated after every event. Words of past films and of the film to predict must
# be different features, so each word gets a prefix: liked, disliked or now.


def words_of(text):
    """Yield the words of a text, each with its prefix: liked, disliked or now."""
    for line in text.split("; "):
        mark = line.split(" ", 1)[0].rstrip(":")
        yield from (f"{mark}_{word}" for word in line.split(": ", 1)[-1].lower().split())


lengths, scores = [1, 3, 10, 30], []
for max_history in lengths:
    texts = BehaviorText(max_history=max_history).fit_transform(X, y)
    model = make_pipeline(
        TfidfVectorizer(analyzer=words_of, min_df=20, sublinear_tf=True),
        LogisticRegression(C=0.3, max_iter=200),
    )
    model.fit(texts[:train_end], y[:train_end])
    probability = model.predict_proba(texts[test_start:])[:, 1]
    scores.append(roc_auc_score(y[test_start:], probability))
    print(f"{max_history:3d} events: AUC {scores[-1]:.3f}")

# %%
# AUC by length of the history
# ----------------------------

figure, axes = plt.subplots()
axes.plot(lengths, scores, marker="o")
axes.set(
    xscale="log",
    xticks=lengths,
    xticklabels=lengths,
    xlabel="past events in the text",
    ylabel="AUC",
)
axes.minorticks_off()

# %%
# The last few films say much about the next one. Ten events help more than one. More than ten add
# little here, because a bag of words does not know which of them matter for the film to predict,
# or how old they are.
