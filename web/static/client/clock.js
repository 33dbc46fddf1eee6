export const now = () => ({ wall: Date.now(), steady: performance.now() });
export const since = (then) => {
const at = now();
return Math.max(at.wall - then.wall, at.steady - then.steady);
};
export const pause = (ms) => new Promise((over) => setTimeout(over, ms));
export const atMost = (ms, promise) => new Promise((over) => {
const timer = setTimeout(over, ms);
const done = () => {
clearTimeout(timer);
over();
};
Promise.resolve(promise).then(done, done);
});
