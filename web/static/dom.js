export function byId(id) {
    const found = document.getElementById(id);
    if (!found)
        throw new Error(`no #${id}`);
    return found;
}
export function el(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes))
        made.setAttribute(name, value);
    made.append(...children);
    return made;
}
export function svg(tag, attributes = {}, ...children) {
    const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes))
        made.setAttribute(name, String(value));
    made.append(...children);
    return made;
}
export function onPress(id, task, failed) {
    const button = byId(id);
    button.addEventListener('click', async () => {
        if (button.getAttribute('aria-disabled') === 'true')
            return;
        button.setAttribute('aria-disabled', 'true');
        try {
            await task();
        }
        catch (error) {
            failed(error);
        }
        finally {
            button.removeAttribute('aria-disabled');
        }
    });
}
export const clock = (at) => at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
