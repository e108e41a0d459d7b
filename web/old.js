// Tells those whose browser is too old for the pages. It is run before them, and written for browsers of long ago.
(function () {
	"use strict";
	function has(object, name) {
		return Boolean(object) && name in object;
	}
	function knows(style) {
		return has(window, "CSS") && has(CSS, "supports") && CSS.supports(style);
	}
	var isNew = has(HTMLScriptElement.prototype, "noModule") &&
		has(window.Promise, "withResolvers") &&
		has(window.Map, "groupBy") &&
		has(Array.prototype, "findLast") &&
		has(Array.prototype, "toReversed") &&
		has(window.URL, "canParse") &&
		has(window, "BroadcastChannel") &&
		has(window, "ResizeObserver") &&
		has(window, "HTMLDialogElement") &&
		has(window.CanvasRenderingContext2D && CanvasRenderingContext2D.prototype, "roundRect") &&
		knows("color: light-dark(red, red)") &&
		knows("height: 1dvh") &&
		knows("selector(:has(a))");
	if (isNew) return;
	var isKorean = /^ko/.test(navigator.language || "");
	var words = isKorean ?
		"이 브라우저는 너무 오래되어 예매할 수 없습니다. Chrome 또는 Edge 123, Firefox 121, Safari 17.5 이상으로 업데이트해 주세요." :
		"This browser is too old to buy tickets here. Please update it: Chrome or Edge 123, Firefox 121, Safari 17.5, or anything newer.";
	var text = document.createElement("p");
	text.id = "old";
	text.setAttribute("role", "alert");
	text.lang = isKorean ? "ko" : "en";
	text.appendChild(document.createTextNode(words));
	document.body.insertBefore(text, document.body.firstChild);
	window.isOld = true;
})();
