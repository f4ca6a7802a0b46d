import { greeting } from "./greeting";

document.querySelector("#greeting")!.textContent = greeting("every platform");
