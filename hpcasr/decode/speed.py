"""What is reported about a recognition: how fast it was, and what its search could not finish."""


def figures(request, recognizer, spent, points):
    """What log.json says.  Speeds are those of all ranks together, paced by the slowest, for one pass."""
    store = recognizer.store
    shift = store.frontend.get('frame_shift', 0.01)
    network = speed(shift, spent, 'computed', 'network')
    search = speed(shift, spent, 'searched', 'search')
    return {'model': str(recognizer.model.path), 'graph': request.graph, 'store': request.store,
            'utterances': store.num_utterances, 'frames': store.num_frames, 'seconds': store.num_frames*shift,
            'beam': request.beam, 'max_active': request.max_active, 'ranks': len(spent),
            'times_real_time': {'all': 1/(1/network + 1/search), 'network': network, 'search': search},
            'points': list(points.values()), 'spent': spent}


def speed(shift, spent, frames, seconds):
    """Seconds of speech per second."""
    return shift*sum(rank[frames] for rank in spent)/max(1e-9, *(rank[seconds] for rank in spent))


def summary(facts):
    """The line for whoever started it."""
    rate = facts['times_real_time']
    return (f'decode    {facts["utterances"]} utterances, {facts["seconds"]/60:.1f} min, {rate["all"]:.3g}x real time '
            f'(network {rate["network"]:.3g}x, search {rate["search"]:.3g}x), acwt {span(facts, "acwt")}, '
            f'penalty {span(facts, "penalty")}')


def span(facts, what):
    values = [point[what] for point in facts['points']]
    return f'{min(values):g}-{max(values):g}' if len(set(values)) > 1 else f'{values[0]:g}'


def remark(facts):
    """A line on the utterances whose search found no final state, or ''."""
    lost = [point for point in facts['points'] if point['unfinished']]
    if not lost:
        return ''
    most = max(lost, key=lambda point: point['unfinished'])
    return (f'note: {most["unfinished"]} of {facts["utterances"]} utterances ended in no final state of the graph '
            f'(acwt {most["acwt"]:g}, penalty {most["penalty"]:g}; first {most["first_unfinished"][0]}); '
            'their best partial path was taken; a larger --beam or --max-active may help')
