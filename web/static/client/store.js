export function pageStore() {
const memory = new Map();
const local = (task) => {
try {
return task(localStorage);
}
catch { }
return;
};
const get = (name) => memory.get(name) ?? local((s) => s.getItem(name));
const remove = (name) => {
memory.delete(name);
local((s) => s.removeItem(name));
};
const set = (name, value) => {
remove(name);
local((s) => s.setItem(name, value));
if (get(name) !== value)
memory.set(name, value);
};
return { get, set, remove };
}
