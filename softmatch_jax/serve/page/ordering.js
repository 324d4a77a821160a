// The order of classes.

/**
 * What to change so that a class moves up (`by` -1) or down (1): a list of {id, order}. It is one change
 * where there is room between its new neighbours, so that one step undoes it; else those below make room.
 */
export function moved(classes, id, by) {
  const at = classes.findIndex((one) => one.id === id);
  if (at < 0 || !classes[at + by]) return [];
  const list = [...classes];
  list.splice(at + by, 0, ...list.splice(at, 1));
  const changes = [];
  for (let i = at + by; i < list.length; i += 1) {
    if (i > at + by && before(list[i - 1], list[i])) break;
    list[i] = { id: list[i].id, order: room(list[i].id, list[i - 1], list[i + 1]) };
    changes.push(list[i]);
  }
  return changes;
}

/** The least order of a class that follows another. */
function room(id, above, below) {
  if (!above) return below.order - 1;
  return before(above, { id, order: above.order }) ? above.order : above.order + 1;
}

/** Whether a class comes before another. Of equal orders, ids of one length are told apart by all alike. */
function before(a, b) {
  if (a.order !== b.order) return a.order < b.order;
  return a.id.length === b.id.length && a.id < b.id;
}
