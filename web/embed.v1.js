// `/embed/v1.js`: what another site loads for `<boxoffice-seats>`.

export * from "../web/seats.js";
