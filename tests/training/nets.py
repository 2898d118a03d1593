"""Helpers that make and train a net."""

from dataclasses import replace

from sklearn_recft.training import PLAIN, Trainer, make_net


def fit_net(net, columns, target, **options):
    """Train by one call of a `Trainer` with these options."""
    Trainer(**options).fit(net, columns, target)


def net_with(module, criterion, policy=None, *, learning_rate, max_epochs=1, verbose=0, **given):
    """Make a net at this learning rate; the rest are parameters of skorch."""
    policy = replace(PLAIN if policy is None else policy, learning_rate=learning_rate)
    return make_net(
        module, criterion, policy, max_epochs=max_epochs, verbose=verbose, net_params=given
    )
