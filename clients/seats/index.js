// Defines `<boxoffice-seats>`. `web/` has the modules that a server has there, too: `packaging/seats.sh` puts them beside this.
export * from "./web/seats.js";
